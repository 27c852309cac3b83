"""Sorting: trained widths keep their function, what matters comes first, and what cannot be sorted is left alone."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import search_spaces
from mutators import ValueChoice
from mutators.elastic import ElasticError, sort_channels
from mutators.elastic.layers import Channels, ElasticBatchNorm2d, ElasticConv2d, ElasticGroupNorm, ElasticLinear, Width
from mutators.elastic.layers.layouts import uses_of
from mutators.elastic.mit_config import ElasticNetwork
from mutators.elastic.training.sorting import sum_reading_weights
from tests.mutators.elastic.nets import Encoder, configs_of, full, is_descending, lively, small

SECOND_PHASE: dict[str, tuple[Mapping[str, Any], Mapping[str, Sequence[float]]]] = {
    "ofa_mobilenet_v3": ({"expand_ratio": 2}, {"e": (4, 6)}),
    "ofa_resnet50": ({"expand_ratio": (0.25, 0.35), "width": (0.8, 1.0)}, {"e": (0.25, 0.35), "w": (1, 2)}),
}


@torch.no_grad()
def _outputs(net: ElasticNetwork, configs: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(next(net.parameters()).dtype)
    found = []
    for config in configs:
        net.set_config(config)
        found.append(net(x))
    return torch.stack(found)


def _keeps_what_is_trained(
    net: ElasticNetwork, trained: Mapping[str, Any], values: Any, n: int, tolerance: float = 1e-5
) -> None:
    largest = net.config_of()
    configs = [largest, *configs_of(net, n, seed=0, trained=values)]
    before, unsorted = _outputs(net, configs), copy.deepcopy(net)
    result = sort_channels(net, trained)
    after = _outputs(net, configs)
    assert not result.left
    assert ((after - before).abs() <= tolerance * before.abs().clamp(min=1)).all()
    moved = [not torch.equal(order, torch.arange(len(order))) for order in result.permutations.values()]
    assert all(moved)
    sort_channels(unsorted)  # without bands only the largest network stays
    without_bands = _outputs(unsorted, configs)
    assert ((without_bands[0] - before[0]).abs() <= tolerance * before[0].abs().clamp(min=1)).all()
    assert (without_bands[1:] - before[1:]).abs().max() > 1e-3


@pytest.mark.parametrize("name", SECOND_PHASE)
def test_trained_widths_keep_their_function(name: str) -> None:
    _keeps_what_is_trained(small(name), *SECOND_PHASE[name], n=6)


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", SECOND_PHASE)
def test_trained_widths_of_the_published_nets_keep_their_function(name: str) -> None:
    """In double precision: through a hundred layers of random weights rounding alone grows to 1e-3 in single."""
    _keeps_what_is_trained(full(name).double(), *SECOND_PHASE[name], n=20, tolerance=1e-9)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", SECOND_PHASE)
def test_the_published_nets_keep_their_largest_networks_function_in_single_precision(name: str) -> None:
    torch.manual_seed(0)
    net = search_spaces.build(name, num_classes=10)
    x = torch.randn(4, 3, 64, 64)
    net.train()(x)  # statistics that are near to what comes, as after a training
    before = net.eval()(x)
    assert sort_channels(net).permutations
    assert before.abs().max() > 1e-3  # and not all zero: of weights as they are drawn, logits are small
    assert ((net(x) - before).abs() <= 1e-5 * before.abs().clamp(min=1)).all()


@pytest.mark.parametrize("name", SECOND_PHASE)
def test_channels_are_in_order_within_the_bands(name: str) -> None:
    net = small(name)
    sort_channels(net)
    for width, uses in _by_width(net):
        assert is_descending(sum_reading_weights(width, uses))
    net = small(name)
    trained = SECOND_PHASE[name][0]
    result = sort_channels(net, trained)
    for width, uses in _by_width(net):
        order, scores = result.permutations[width], sum_reading_weights(width, uses)
        sizes = sorted(width.sizes[at] for at in itertools.product((1, 2), repeat=len(width.choices)))
        for a, b in itertools.pairwise([0, *sizes]):
            assert sorted(order[a:b].tolist()) == list(range(a, b))  # squeeze-and-excite's are among them
            assert is_descending(scores[a:b])


def _by_width(net: nn.Module) -> Iterator[tuple[Width, Any]]:
    uses = uses_of(net)
    for width in dict.fromkeys(width for use in uses for width in use.widths):
        if len(width.offered) > 1:
            yield width, uses


def test_the_importance_is_mits_without_squeeze_and_excite() -> None:
    net = small("ofa_mobilenet_v3")
    block = net.get_submodule("stage2.block0")
    project = block.get_submodule("project.conv").weight.detach()  # type: ignore[operator,union-attr]
    expected = project.abs().sum((0, 2, 3)).argsort(descending=True)
    width = block.get_submodule("project.conv").inputs.segments[0][0]  # type: ignore[union-attr,index]
    assert sort_channels(net).permutations[width].tolist() == expected.tolist()


class Mixed(nn.Module):
    """A concatenation with a fixed part in between, a flattening, and a bias everywhere. (N, 3, 4, 4) to (N, 2)."""

    def __init__(self, sizes: Sequence[Sequence[int]], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.choices = nn.ModuleList(ValueChoice(range(1, len(options) + 1)) for options in sizes)
        a, b, c = (Width.of(choice, n) for choice, n in zip(self.choices, sizes, strict=True))  # type: ignore[arg-type]
        image = Channels.of(3)
        self.left, self.right = ElasticConv2d(image, a, 3), ElasticConv2d(image, b, 1)
        self.middle = nn.Conv2d(3, 2, 1)
        both = Channels((a, 1), (2, 1), (b, 1))
        self.norm = ElasticBatchNorm2d(both)
        self.depthwise = ElasticConv2d(both, both, 3, groups=both.full)
        self.mix = ElasticConv2d(both, a, 1)
        self.hidden = ElasticLinear(Channels((a, 16)), c)
        self.head = ElasticLinear(c, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left = self.left(x)
        x = self.depthwise(self.norm(torch.cat([left, self.middle(x), self.right(x)], 1)))
        x = torch.relu(self.mix(x)) + left
        logits: torch.Tensor = self.head(torch.tanh(self.hidden(x.flatten(1))))
        return logits


offered = st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True)


@settings(max_examples=30, deadline=None)
@given(sizes=st.tuples(offered, offered, offered), seed=st.integers(0, 9), n_trained=st.integers(1, 3))
def test_any_network_keeps_what_is_trained(sizes: Any, seed: int, n_trained: int) -> None:
    sizes = [sorted(options) for options in sizes]
    net = lively(Mixed(sizes, seed), 4)
    x = torch.randn(3, 3, 4, 4)
    combinations = list(itertools.product(*(range(1, len(options) + 1)[-n_trained:] for options in sizes)))

    def outputs() -> torch.Tensor:
        found = []
        for values in combinations:
            for choice, value in zip(net.choices, values, strict=True):
                choice.set(value)
            found.append(net(x))
        return torch.stack(found).detach()

    before = outputs()
    result = sort_channels(net, {"choices.*": n_trained})
    torch.testing.assert_close(outputs(), before, atol=1e-5, rtol=1e-5)
    assert not result.left
    assert len(result.permutations) == sum(len(options) > 1 for options in sizes)
    again = sort_channels(net, {"choices.*": n_trained}).permutations
    assert all(torch.equal(order, torch.arange(len(order))) for order in again.values())


def test_momentum_and_gradients_belong_to_their_channels() -> None:
    plain, ordered = (lively(Mixed(((2, 6), (3, 5), (4, 9)), 0), 4) for _ in range(2))
    x = torch.randn(8, 3, 4, 4)
    optimizers = [torch.optim.SGD(net.parameters(), 0.05, momentum=0.9) for net in (plain, ordered)]
    for step in range(4):
        for net, optimizer in zip((plain, ordered), optimizers, strict=True):
            optimizer.zero_grad()
            net(x).square().sum().backward()
            if net is ordered and step == 2:
                assert sort_channels(net, optimizer=optimizer).permutations
            optimizer.step()
        torch.testing.assert_close(ordered(x), plain(x), atol=1e-5, rtol=1e-4)


def test_heads_and_neurons_are_sorted_by_a_given_importance() -> None:
    net = Encoder().eval()
    heads, neurons = net.attention.projected.segments[0][0], net.up.outputs.segments[0][0]  # type: ignore[union-attr]
    x = torch.randn(2, 5, 12)
    before, columns = net(x), net.attention.out_proj.weight.detach().clone()
    scores = {heads: torch.tensor([1.0, 4.0, 2.0, 3.0]), neurons: torch.arange(20.0)}
    result = sort_channels(net, importance=scores)
    assert result.permutations[heads].tolist() == [1, 3, 2, 0]
    assert result.permutations[neurons].tolist() == list(range(20))[::-1]
    assert torch.equal(net.attention.out_proj.weight[:, :3], columns[:, 3:6])
    torch.testing.assert_close(net(x), before, atol=1e-5, rtol=1e-5)


def _left_alone() -> dict[str, tuple[nn.Module, str]]:
    width = Width.of(ValueChoice((1, 2)), (4, 8))
    channels = Channels.of(width)
    write, read = ElasticConv2d(Channels.of(3), channels, 1), ElasticConv2d(channels, Channels.of(2), 1)
    sequences = {
        "has groups": [write, ElasticConv2d(channels, Channels.of(width), 1, groups=2), read],
        "norm has groups": [write, ElasticGroupNorm(4, channels), read],
        "no layout says": [write, ElasticConv2d(8, 2, 1)],
        "takes as many": [write, ElasticBatchNorm2d(8), read],
        "reads it": [write],
        "writes it": [read],
    }
    return {name: (nn.Sequential(*layers), name.removeprefix("norm ")) for name, layers in sequences.items()}


@pytest.mark.parametrize("case", _left_alone())
def test_what_cannot_be_sorted_is_left_alone_and_told(case: str) -> None:
    net, reason = _left_alone()[case]
    before = copy.deepcopy(net.state_dict())
    result = sort_channels(net)
    assert not result.permutations
    assert [reason in told for told in result.left.values()] == [True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_tensor_under_two_layouts_is_left_alone() -> None:
    one, other = (Width.of(ValueChoice((1, 2)), (4, 8)) for _ in range(2))
    net = nn.ModuleList(ElasticLinear(Channels.of(8), width) for width in (one, other))
    net[1].weight = net[0].weight
    net.append(ElasticLinear(one, 2)).append(ElasticLinear(other, 2))
    result = sort_channels(net)
    assert set(result.left) == {one, other}
    assert "under another layout" in result.left[one]


def test_everything_that_is_wrong_is_listed_and_nothing_is_sorted() -> None:
    net = small("ofa_mobilenet_v3")
    before = copy.deepcopy(net.state_dict())
    stranger = Width.of(ValueChoice((1, 2)), (1, 2))
    mine = next(width for width, _ in _by_width(net))
    scores = {stranger: torch.ones(2), mine: torch.ones(3)}
    with pytest.raises(ElasticError) as caught:
        sort_channels(net, {"stage1.block0.expand_ratio": (5,), "expand_ratio": 0, "heads": 2}, importance=scores)
    told = "\n".join(caught.value.problems)
    assert "'heads' fits no elastic choice" in told
    assert "'stage1.block0.expand_ratio': 5 is not on offer" in told
    assert told.count("0 is no list of options") == 3
    assert "not in this network" in told
    assert f"shape (3,), wanted {mine.full} finite numbers" in told
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
