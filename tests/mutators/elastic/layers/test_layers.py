"""Elastic layers: against recorded numbers, against plain layers of sliced weights, and as choices like any other."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mutators import ChoiceError, RandomMutator, ValueChoice, apply_choices, extract, search_space_of
from mutators.choices.switch import Switch
from mutators.elastic import ElasticError
from mutators.elastic.layers import (
    Channels,
    ElasticBatchNorm1d,
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticDepth,
    ElasticLinear,
    Width,
)
from mutators.mmrazor import OneShotMutator
from mutators.oneshot import recalibrate_bn
from search_spaces import Space

REFERENCE = Path(__file__).parent / "data" / "dynconv_dw357.npz"


@pytest.fixture(scope="module")
def recorded() -> Mapping[str, torch.Tensor]:
    with np.load(REFERENCE, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("channels", [8, 12, 16])
def test_an_elastic_kernel_computes_what_is_recorded(
    recorded: Mapping[str, torch.Tensor], channels: int, kernel: int, stride: int
) -> None:
    layer = ElasticConv2d(16, 16, (3, 5, 7), stride=stride, groups=16, bias=False)
    layer.load_state_dict({name: recorded[name] for name in ("weight", "5to3_matrix", "7to5_matrix")})
    layer.set_config(kernel_size=kernel)
    case = f"c{channels}_k{kernel}_s{stride}"
    x = recorded["x"][:, :channels].clone().requires_grad_()
    y = layer(x)
    torch.testing.assert_close(y, recorded[f"{case}/y"], atol=1e-5, rtol=0)
    plain = extract(layer, {"kernel_size": {"_idx": (3, 5, 7).index(kernel)}})
    torch.testing.assert_close(plain.weight[:channels].detach(), recorded[f"{case}/filter"], atol=1e-5, rtol=0)
    if stride == 1:
        (y * torch.cos(torch.arange(y.numel(), dtype=y.dtype)).view_as(y)).sum().backward()
        torch.testing.assert_close(x.grad, recorded[f"{case}/grad_x"], atol=1e-5, rtol=0)
        for name, parameter in layer.named_parameters():
            expected = recorded.get(f"{case}/grad_{name}")
            if expected is not None:
                got = torch.zeros_like(expected) if parameter.grad is None else parameter.grad
                # Equal to the bit on two threads; on one the sums have another order, and the recorded numbers, which
                # reach 20, are themselves 1.15e-5 from those in double precision.
                torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-6)


def test_identity_matrices_are_the_plain_crop() -> None:
    with_matrices = ElasticConv2d(4, 6, (3, 5, 7))
    without = ElasticConv2d.of(nn.Conv2d(4, 6, 7, padding=3), kernel_size=(3, 5, 7), transform_kernel=False)
    without.load_state_dict({name: with_matrices.state_dict()[name] for name in ("weight", "bias")})
    x = torch.randn(2, 4, 9, 9)
    for kernel in (3, 5, 7):
        with_matrices.set_config(kernel_size=kernel)
        without.set_config(kernel_size=kernel)
        assert torch.equal(with_matrices(x), without(x))
        start = (7 - kernel) // 2
        crop = without.weight[:, :, start : start + kernel, start : start + kernel]
        assert torch.equal(without(x), F.conv2d(x, crop, without.bias, padding=kernel // 2))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_a_grown_kernel_computes_what_the_layer_did(stride: int, dilation: int, mode: Any) -> None:
    conv = nn.Conv2d(3, 5, 3, stride, padding=dilation, dilation=dilation, padding_mode=mode)
    x = torch.randn(2, 3, 16, 17)
    expected = conv(x)
    layer = ElasticConv2d.of(conv, kernel_size=(1, 3, 5))
    torch.testing.assert_close(layer(x), expected) if mode == "zeros" else None
    for kernel in (1, 3, 5):
        layer.set_config(kernel_size=kernel)
        assert layer(x).shape == expected.shape
    layer.set_config(kernel_size=3)
    torch.testing.assert_close(layer(x), expected)


def test_channels_are_the_first_ones() -> None:
    layer = ElasticConv2d(8, (4, 6, 12), 3)
    x = torch.randn(1, 8, 5, 5)
    for n in (4, 6, 12):
        layer.set_config(channel=n)
        assert layer.bias is not None
        torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight[:n], layer.bias[:n], padding=1))
        torch.testing.assert_close(layer(x[:, :3]), F.conv2d(x[:, :3], layer.weight[:n, :3], layer.bias[:n], padding=1))


def test_groups_stay_as_many() -> None:
    layer = ElasticConv2d(8, (4, 8, 12), 3, groups=4)
    layer.set_config(channel=8)
    x = torch.randn(1, 4, 5, 5)
    assert layer.bias is not None
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight[:8, :1], layer.bias[:8], padding=1, groups=4))


def test_concatenated_channels_are_taken_from_each_part() -> None:
    a, b = ValueChoice((2, 4)), ValueChoice((1, 3))
    widths = Width.of(a, (2, 4)), Width.of(b, (1, 3))
    parts = Channels((widths[0], 1), (2, 1), (widths[1], 1))
    layer = ElasticConv2d.of(nn.Conv2d(9, 2, 1, bias=False), in_channels=parts)
    norm = ElasticBatchNorm2d(parts)
    a.set(2)
    b.set(1)
    used = [0, 1, 4, 5, 6]
    x = torch.randn(4, 5, 3, 3)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight[:, used]))
    norm(x)
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean[used], 0.1 * x.mean((0, 2, 3)))
    assert norm.running_mean[[2, 3, 7, 8]].eq(0).all()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_norm_is_that_of_its_channels(momentum: float | None) -> None:
    torch.manual_seed(0)
    norm = ElasticBatchNorm2d(6, momentum=momentum)
    plain = nn.BatchNorm2d(4, momentum=momentum)
    for _ in range(3):
        x = torch.randn(5, 4, 3, 3) * 2 + 1
        torch.testing.assert_close(norm(x), plain(x))
    norm.eval()
    plain.eval()
    torch.testing.assert_close(norm(x), plain(x))
    assert norm.running_var is not None
    assert plain.running_var is not None
    torch.testing.assert_close(norm.running_var[:4], plain.running_var)
    assert norm.running_var[4:].eq(1).all()


class Net(nn.Module):
    """Widths shared between layers, a concatenation, a flattening, a depth."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ElasticConv2d(3, (4, 8), (3, 5))
        width = self.first.outputs
        assert width is not None
        self.norm = ElasticBatchNorm2d(width)
        self.depthwise = ElasticConv2d(width, 8, (1, 3), groups=8)
        self.other = ElasticConv2d(width, (2, 3, 6), 1)
        extra = self.other.outputs
        assert extra is not None
        both = Channels(*width.segments, *extra.segments)
        self.mix = ElasticConv2d(both, 8, 3)
        self.blocks = ElasticDepth([nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()) for _ in range(4)], (0.5, 0.75, 1.0))
        self.hidden = ElasticLinear(8 * 16, (5, 10))
        assert self.hidden.outputs is not None
        self.bn = ElasticBatchNorm1d(self.hidden.outputs)
        self.head = ElasticLinear(self.hidden.outputs, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.cat([self.depthwise(x), self.other(x)], 1)
        x = self.blocks(self.mix(x))
        logits: torch.Tensor = self.head(self.bn(self.hidden(x.flatten(1))))
        return logits


def perturbed(net: nn.Module) -> nn.Module:
    """With weights, statistics and matrices of which no two are alike."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in [*net.parameters(), *net.buffers()]:
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand(tensor.shape, generator=generator)
    return net


def test_the_space_has_a_key_for_each_choice() -> None:
    assert search_space_of(Net()) == {
        "first.kernel_size": {"_type": "layer_choice", "_value": ["3", "5"]},
        "first.channel": {"_type": "layer_choice", "_value": ["4", "8"]},
        "depthwise.kernel_size": {"_type": "layer_choice", "_value": ["1", "3"]},
        "other.channel": {"_type": "layer_choice", "_value": ["2", "3", "6"]},
        "blocks.depth": {"_type": "layer_choice", "_value": ["0.5", "0.75", "1.0"]},
        "hidden.channel": {"_type": "layer_choice", "_value": ["5", "10"]},
    }


def test_every_extracted_network_computes_what_the_supernet_does() -> None:
    net = perturbed(Net()).eval()
    space = Space.from_json(search_space_of(net))
    before = copy.deepcopy(net.state_dict())
    x = torch.randn(2, 3, 4, 4)
    for tokens in space.sample_tokens(np.random.default_rng(0), 40).tolist():
        choices = space.decode(tuple(tokens))
        plain = extract(net, choices)
        apply_choices(net, choices)
        torch.testing.assert_close(plain(x), net(x), atol=1e-6, rtol=1e-6)
        kinds = {type(module).__module__ for module in plain.modules()}
        assert not any(kind.startswith("mutators") for kind in kinds)
        assert len(plain.blocks) == round(float(choices["blocks.depth"]["_value"]) * 4)
        assert plain.first.weight.shape[0] == int(choices["first.channel"]["_value"])
        used = {tensor.data_ptr() for tensor in plain.state_dict().values()}
        assert not used & {tensor.data_ptr() for tensor in net.state_dict().values()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_copy_has_choices_of_its_own_and_shares_them_within() -> None:
    net = Net()
    copied = copy.deepcopy(net)
    copied.first.set_config(channel=4)
    assert copied.norm.channels is copied.first.outputs
    assert copied(torch.randn(2, 3, 4, 4)).shape == (2, 2)
    assert net.first.outputs is not None
    assert net.first.outputs.size() == 8


def test_a_mutator_steers_it() -> None:
    net = Net()
    mutator = RandomMutator(net, seed=3)
    x = torch.randn(2, 3, 4, 4)
    for _ in range(5):
        mutator.reset()
        choices = {key: {"_idx": mask.index(True)} for key, mask in mutator.export_json().items()}
        plain = extract(net, choices)
        torch.testing.assert_close(net.train()(x), plain.train()(x))
    mutator.release()
    switch = Switch(net)
    switch.set([0] * len(switch.space))
    assert net.first.options == {"kernel_size": (3, 5), "channel": (4, 8)}
    assert net.first.kernel_size == (3, 3)


def test_recalibration_writes_the_channels_in_use() -> None:
    net = Net()
    apply_choices(net, Space.from_json(search_space_of(net)).decode((0,) * 6))
    recalibrate_bn(net, [torch.randn(8, 3, 4, 4) for _ in range(3)])
    assert net.norm.running_mean is not None
    assert net.norm.running_mean[:4].ne(0).all()
    assert net.norm.running_mean[4:].eq(0).all()


def test_it_cannot_be_fixed_in_place() -> None:
    net = Net()
    mutator = OneShotMutator()
    mutator.prepare_from_supernet(net)
    with pytest.raises(ChoiceError, match="cannot be fixed in place"):
        mutator.deploy_subnet(net, mutator.sample_subnet())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ElasticConv2d(4, 4, (3, 4)), "odd"),
        (lambda: ElasticConv2d(4, 4, 2), "odd"),
        (lambda: ElasticConv2d.of(nn.Conv2d(4, 4, (1, 7)), kernel_size=(3, 5)), "1 x 7"),
        (lambda: ElasticConv2d.of(nn.Conv2d(4, 4, 5, padding=1), kernel_size=(1, 5)), "too small to crop"),
        (lambda: ElasticConv2d.of(nn.Conv2d(4, 4, 3, padding="valid"), kernel_size=(3, 5)), "valid"),
        (lambda: ElasticConv2d.of(nn.Conv2d(4, 8, 3), out_channels=(2, 4)), "4 at most, but the layer has 8"),
        (lambda: ElasticConv2d(8, (4, 6, 8), 3, groups=4), "6 is no multiple of the 4 groups"),
        (lambda: ElasticConv2d(8, (4, 8), 3, groups=8), "has its input's"),
        (lambda: ElasticLinear.of(nn.Linear(4, 8), out_features=(2, 4)), "4 at most, but the layer has 8"),
        (lambda: ElasticBatchNorm2d.of(nn.BatchNorm2d(4), (2, 8)), "8 at most, but the norm has 4"),
        (lambda: ElasticDepth([nn.Identity()] * 2, (1, 3)), "depth 3 is 3 blocks"),
        (lambda: ElasticDepth([nn.Identity()] * 2, (0.4, 0.5)), "two of them are the same"),
        (lambda: ElasticDepth({"depth": nn.Identity()}, (1,)), "choice's name"),
        (lambda: ValueChoice(()), "at least one"),
        (lambda: ValueChoice((1, "a")), "numbers"),  # type: ignore[arg-type]
        (lambda: ElasticConv2d(4, 4, (3, 5)).set_config(kernel_size=4), r"4 is not on offer, wanted one of \[3, 5\]"),
        (lambda: ElasticConv2d(4, 4, (3, 5)).set_config(kernel=3), r"'kernel' is unknown, wanted some of"),
        (lambda: ElasticConv2d(4, 4, (3, 5)).set_config(3), r"got 3, wanted values by name, of \['kernel_size'\]"),
    ],
)
def test_bad_input_says_what_is_wrong(build: Any, message: str) -> None:
    with pytest.raises(ElasticError, match=message):
        build()
