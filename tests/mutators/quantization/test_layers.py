"""Quantized layers: what is shared, what a step trains, and what is extracted and counted."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mutators import LayerChoice, ValueChoice, apply_choices, extract
from mutators.costs import count_bit_operations, count_macs, measure_cost
from mutators.elastic.layers import ElasticConv2d, ElasticDepth
from mutators.oneshot import TrainConfig, train_supernet
from mutators.quantization import QuantizationError, QuantizedConv2d, QuantizedLinear
from search_spaces.errors import CostError
from tests.search_spaces.nets.models import space_of

SHAPE = (2, 6, 6)


def net() -> nn.Sequential:
    """Two convolutions that share the bits of their weights, and a linear layer; (N, 2, 6, 6) to (N, 3)."""
    torch.manual_seed(0)
    bits = ValueChoice((1, 2, 4), key="weights")
    first = QuantizedConv2d(2, 8, 3, padding=1, weight_bits=bits, activation_bits=8)
    second = QuantizedConv2d(8, 8, 3, stride=2, groups=2, bias=False, weight_bits=bits)
    norms = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
    return nn.Sequential(first, norms[0], second, norms[1], nn.Flatten(), QuantizedLinear(32, 3, activation_bits=2))


def batch(n: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1)), torch.arange(n) % 3


def test_extracted_networks_compute_the_same_with_as_few_weights_as_promised() -> None:
    model, (x, _) = net().eval(), batch()
    space = space_of(model)
    assert space.keys == ("weights", "2.activation_bits", "5.weight_bits")
    for tokens in itertools.product(*map(range, space.radices)):
        choices = space.decode(tokens)
        apply_choices(model, choices)
        network: Any = extract(model, choices)
        assert torch.equal(network(x), model(x))
        bits = int(choices["weights"]["_value"])
        assert network[0].bits == (bits, 8) and network[2].bits == (bits, tokens[1] + 1)
        for layer in (network[0], network[2], network[5]):
            assert torch.equal(layer.weight, layer.quantized_weight())
            assert len(layer.weight.unique()) == 2 ** layer.bits[0] == layer.weight.unique().abs().unique().numel() * 2
    assert {name for name, _ in network[0].named_parameters()} == {"weight", "bias", "weight_clip4", "activation_clip8"}
    assert not any(isinstance(module, ValueChoice) for module in network.modules())


def test_an_extracted_network_is_trained_on_and_extracted_again() -> None:
    model = net()
    network: Any = extract(model, space_of(model).decode((1, 1, 1)))
    before = network[2].weight.detach().clone()
    train_supernet(network, [batch()], TrainConfig(epochs=3, lr=0.05), progress=False)
    assert len(network[2].weight.unique()) > 4 and not torch.equal(network[2].weight, before)
    again: Any = extract(network.eval(), {})
    assert len(again[2].weight.unique()) == 4 and torch.equal(again(batch()[0]), network(batch()[0]))


def test_a_step_trains_the_clipping_values_that_it_runs_with() -> None:
    model = net()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train_supernet(
        model, [batch()], TrainConfig(epochs=2, lr=0.1), paths=lambda step: [(0 if step else 2, 1, 0)], progress=False
    )
    moved = {name for name, p in model.named_parameters() if "clip" in name and not torch.equal(p, before[name])}
    ran = {f"{i}.weight_clip{bits}" for i in (0, 2) for bits in (1, 4)} | {"2.activation_clip2", "5.weight_clip1"}
    assert moved <= ran | {"0.activation_clip8", "5.activation_clip2"} and ran <= moved


def test_a_layer_takes_over_a_plain_one() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
    layer = QuantizedConv2d.of(conv, weight_bits=8, activation_bits=8)
    assert layer.weight is conv.weight and layer.padding_mode == "reflect"
    both = [QuantizedConv2d.of(conv, weight_bits=bits) for bits in ((1, 2), (3, 4))]  # the plain layer stays as it was
    assert [list(space_of(one).domains["weight_bits"].names) for one in both] == [["1", "2"], ["3", "4"]]
    assert not list(conv.children()) and set(conv.state_dict()) == {"weight", "bias"}
    x = torch.rand(1, 3, 8, 8)
    assert torch.allclose(layer(x), conv(x), atol=0.05)
    with torch.no_grad():
        conv.weight *= 10
    layer.reset_clipping()
    assert torch.allclose(layer(x), conv(x), atol=0.5)


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ({"weight_bits": 0}, "weight_bits is 0, wanted a whole number from 1 up"),
        ({"activation_bits": (2, 9)}, "activation_bits has 9, wanted at most 8"),
        ({"weight_bits": ValueChoice((0.5, 1))}, "weight_bits is 0.5"),
        ({"weight_bits": ()}, "at least one"),
    ],
)
def test_bits_that_do_not_fit(bits: dict[str, Any], message: str) -> None:
    with pytest.raises((QuantizationError, ValueError), match=message):
        QuantizedLinear(4, 4, **bits)
    with pytest.raises(QuantizationError, match=r"QuantizedConv2d.of got a Linear, wanted a torch.nn"):
        QuantizedConv2d.of(nn.Linear(4, 4))


class TestBitOperations:
    def test_are_multiply_adds_times_both_bits(self) -> None:
        """By hand: 36 pixels of 8 x 2 x 9, then 4 of 8 x 4 x 9, then 32 x 3; exact for every architecture."""
        model = net()
        table, space = measure_cost(model, SHAPE, checks=2), space_of(model)
        assert table.metrics == ("macs", "params", "bit_operations") and all(table.about["check"]["exact"].values())
        assert table.fixed["macs"] == 36 * 144 + 4 * 288 + 96 and table.fixed["bit_operations"] == 0
        for tokens in space.sample_tokens(np.random.default_rng(0), 4).tolist():
            weights, activations, last = (1, 2, 4)[tokens[0]], tokens[1] + 1, tokens[2] + 1
            wanted = 36 * 144 * weights * 8 + 4 * 288 * weights * activations + 96 * last * 2
            assert table.cost("bit_operations", tokens) == wanted
            assert count_bit_operations(extract(model, space.decode(tokens)), SHAPE) == wanted

    def test_of_one_choice_for_both_bits_are_its_squares(self) -> None:
        bits = ValueChoice((2, 3))
        table = measure_cost(
            nn.Sequential(bits_of := QuantizedLinear(4, 5, weight_bits=bits, activation_bits=bits)), (4,)
        )
        assert isinstance(bits_of.weight_bits, ValueChoice) and table.space.size == 2
        assert table.options["bit_operations"] == {"0.weight_bits": (80, 180)}

    def test_beside_elastic_widths_and_depths(self) -> None:
        """Whole networks agree with the sums: of a kernel, a depth, and bits in a block that may be left out."""
        blocks = [QuantizedConv2d(4, 4, 3, padding=1, weight_bits=(1, 3), activation_bits=(2, 4)) for _ in range(2)]
        model = nn.Sequential(ElasticConv2d(2, 4, (3, 5)), ElasticDepth(blocks, depths=(1, 2)))
        table, space = measure_cost(model, SHAPE, checks=2), space_of(model)
        for tokens in space.sample_tokens(np.random.default_rng(0), 4).tolist():
            network = extract(model, space.decode(tokens))
            assert table.cost("bit_operations", tokens) == count_bit_operations(network, SHAPE)
            assert table.cost("macs", tokens) == count_macs(network, SHAPE)

    def test_of_candidates(self) -> None:
        candidates = {f"w{bits}": QuantizedConv2d(2, 4, 1, weight_bits=bits, activation_bits=4) for bits in (1, 2)}
        model = nn.Sequential(LayerChoice({**candidates, "float": nn.Conv2d(2, 4, 3, padding=1)}, key="conv"))
        table = measure_cost(model, SHAPE)
        assert table.options["bit_operations"] == {"conv": (8 * 36 * 4, 8 * 36 * 8, 0)}

    def test_are_unknown_where_nothing_is_quantized(self) -> None:
        plain = nn.Sequential(LayerChoice([nn.Linear(4, 4), nn.Identity()], key="a"))
        assert measure_cost(plain, (4,)).metrics == ("macs", "params")
        with pytest.raises(CostError, match="wanted some of macs, params: no layer of this model is quantized"):
            measure_cost(plain, (4,), ["bit_operations"])


def test_the_gradient_of_the_float_weight_is_that_of_the_quantized_one() -> None:
    layer = QuantizedLinear(6, 3, weight_bits=2, activation_bits=3)
    x = torch.rand(5, 6)
    layer(x).square().sum().backward()
    weight = layer.quantized_weight().detach().requires_grad_()
    F.linear(layer.quantized_input(x), weight, layer.bias).square().sum().backward()
    assert weight.grad is not None
    inside = layer.weight.abs() < layer.get_parameter("weight_clip2")
    assert torch.equal(layer.weight.grad, weight.grad * inside)
