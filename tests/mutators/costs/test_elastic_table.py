"""Tables of elastic networks: equal to what extracted sub-networks cost, to the unit, whatever depends on what."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import search_spaces
from mutators import InputChoice, LayerChoice, ValueChoice, apply_choices, extract, search_space_of
from mutators.costs import count_macs, count_params, measure_cost, measure_latency
from mutators.costs.elastic_table import cost_table
from mutators.elastic import OFA, RunConfig, convert
from mutators.elastic.layers import Channels, ElasticConv2d, ElasticDepth, ElasticLinear, Width
from mutators.elastic.search.journal import digest_of
from search_spaces.cost import CostTable
from search_spaces.errors import CostError
from tests.mutators.elastic import models, nets
from tests.mutators.elastic.training import shrinking as toy

ANCHORS = {  # parameters and multiply-adds at 64 pixels, largest and smallest, as MIT's own nets have them
    "ofa_mobilenet_v3": ((6_396_570, 49_554_816), (2_142_602, 11_189_952)),
    "ofa_resnet50": ((46_077_482, 611_416_064), (5_223_570, 78_451_168)),
}
ALL: dict[str, Any] = {"kernel_size": (3, 5, 7), "expand_ratio": (0.5, 0.75, 1.0)}
DEPTHS: dict[str, Any] = {"resnet": (1, 2, 3), "mobilenet_v2": (0.5, 1.0)}


@functools.cache
def built(name: str) -> tuple[nn.Module, CostTable]:
    """One of MIT's nets, and its table."""
    net = search_spaces.build(name, num_classes=10)
    return net, cost_table(net, (3, 64, 64), checks=0)


def by_hand(net: nn.Module, x: torch.Tensor) -> int:
    """Multiply-adds of convolutions and linear layers, counted from the sizes that pass."""
    counts: list[int] = []

    def note(layer: Any, _: Any, out: torch.Tensor) -> None:
        positions = out.numel() // out.shape[1]
        counts.append(positions * layer.weight.numel())

    hooks = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        net.eval()(x)
    for hook in hooks:
        hook.remove()
    return sum(counts)


def compare(name: str, n: int) -> None:
    net, table = built(name)
    x = torch.zeros(1, 3, 64, 64)
    for tokens in table.space.sample_tokens(np.random.default_rng(1), n).tolist():
        plain = extract(net, table.space.decode(tokens))
        assert table.cost("params", tokens) == count_params(plain)
        assert table.cost("macs", tokens) == by_hand(plain, x)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ANCHORS))
def test_the_anchors(name: str) -> None:
    _, table = built(name)
    for tokens, (params, macs) in zip(
        ([radix - 1 for radix in table.space.radices], [0] * len(table.space)), ANCHORS[name], strict=True
    ):
        assert (table.cost("params", tokens), table.cost("macs", tokens)) == (params, macs)
    compare(name, 3)


@pytest.mark.slow
@pytest.mark.parametrize("n", [25, pytest.param(100, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", sorted(ANCHORS))
def test_configurations_to_the_unit(name: str, n: int) -> None:
    compare(name, n)


@pytest.mark.slow
@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_converted_models(name: str) -> None:
    build, example = models.MODELS[name]
    net, x = convert(build(), **ALL, depth=DEPTHS.get(name)), example()[:1]
    ignore = ("",) if name == "transformer" else ()  # its positions are added
    table = cost_table(net, (x,), ignore=ignore, checks=5)
    assert all(table.about["check"]["exact"].values()) and table.about["check"]["architectures"] >= 4
    for tokens in table.space.sample_tokens(np.random.default_rng(1), 10).tolist():
        plain = extract(net, table.space.decode(tokens))
        assert table.cost("macs", tokens) == count_macs(plain, (x,), ignore)
        assert table.cost("params", tokens) == count_params(plain)


def exact(net: nn.Module, shape: Any) -> CostTable:
    """The table, equal to every extracted sub-network of a small space."""
    table = cost_table(net, shape)
    for tokens in np.indices(table.space.radices).reshape(len(table.space), -1).T.tolist():
        plain = extract(net, table.space.decode(tokens))
        assert table.cost("macs", tokens) == count_macs(plain, shape)
        assert table.cost("params", tokens) == count_params(plain)
    return table


class Strided(nn.Module):
    """What is behind the stage works on fewer pixels the deeper that is."""

    def __init__(self) -> None:
        super().__init__()
        self.choice = ValueChoice((2, 4))
        width = Width.of(self.choice, (2, 4))
        self.stem = ElasticConv2d(1, width, 1)
        halves = [nn.Sequential(ElasticConv2d(width, width, (1, 3)), nn.MaxPool2d(2)) for _ in range(2)]
        self.stage = ElasticDepth(halves, (1, 2))
        self.last = ElasticConv2d(width, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.stage(self.stem(x)))
        return out


class Mixed(nn.Module):
    """Has elastic layers inside choices of layers, one of them inside another; and one that halves what comes after."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = ValueChoice((2, 4))
        width = Channels.of(Width.of(self.scale, (2, 4)))
        inner = LayerChoice({"1x1": ElasticConv2d(width, width, 1), "3x3": ElasticConv2d(width, width, 3)})
        layers = {"deep": nn.Sequential(ElasticConv2d(width, width, 1), inner), "dense": ElasticConv2d(width, width, 3)}
        self.stem = ElasticConv2d(1, width, 1)
        self.first = LayerChoice({**layers, "pool": nn.MaxPool2d(2)})
        self.last = LayerChoice([ElasticConv2d(width, 3, 3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.first(self.stem(x)))
        return out


def test_elastic_layers_inside_choices_of_layers() -> None:
    assert exact(Mixed(), (1, 8, 8)).about["check"]["exact"] == {"macs": True, "params": True}


class Products(nn.Module):
    """Multiplies feature maps by each other, which is no layer's business."""

    def __init__(self) -> None:
        super().__init__()
        self.q = ElasticLinear(4, (2, 6))
        self.k = ElasticLinear(4, Channels.of(self.q.outputs.segments[0][0]))  # type: ignore[union-attr]
        self.v = ElasticLinear(4, (3, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.q(x) @ self.k(x).transpose(1, 2) @ self.v(x)


class Deep(nn.Module):
    """Looks after its depth itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.head = ElasticLinear(4, 2)

    def forward(self, x: torch.Tensor, depth: float = 3) -> torch.Tensor:
        for layer in self.layers[: int(depth)]:
            x = layer(x)
        return self.head(x)


def test_what_no_layer_tells_is_counted_on_whole_networks() -> None:
    exact(Strided(), (1, 8, 8))
    exact(Products(), (5, 4))
    table = cost_table(OFA(Deep(), RunConfig(elastic_depth=(1, 2, 3))).supernet.runnable, (4,))
    assert [table.cost("macs", (token,)) for token in range(3)] == [24, 40, 56]
    assert table.about["check"]["exact"]["macs"]


NORMS: dict[str, Any] = {
    "group": lambda: (nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.Conv2d(8, 4, 1)),
    "instance": lambda: (nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.Conv2d(8, 4, 1)),
    "layer": lambda: (nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 4)),
    "embedding": lambda: (nn.Embedding(5, 8), nn.Linear(8, 4)),
}


@pytest.mark.parametrize("name", sorted(NORMS))
def test_what_is_free_as_a_plain_layer_is_free_as_an_elastic_one(name: str) -> None:
    x = torch.randint(5, (2, 3)) if name == "embedding" else torch.randn(2, 3, 8, 8)
    net = convert(nn.Sequential(*NORMS[name]()), example=x, expand_ratio=(0.5, 1.0))
    exact(net, (x[:1],))


def test_measure_latency_uses_it() -> None:
    net = toy.Net()
    counted = cost_table(net, (1, 6, 6), checks=0)
    both = measure_latency(net, (1, 6, 6), counted, repeats=3)
    assert set(both.metrics) == {"macs", "params", "latency_ms"} and set(both.joint) == set(both.metrics)
    assert both.cost("macs", [0] * 7) == counted.cost("macs", [0] * 7)
    assert both.about["latency_ms"]["blocks"] == 5 and both.about["input_shape"] == [1, 6, 6]
    alone = measure_latency(net, (1, 6, 6), repeats=3)
    assert 0 < alone.bounds("latency_ms").low < alone.bounds("latency_ms").high


def test_measure_cost_uses_it() -> None:
    net = toy.Net()
    before, state = digest_of(net), search_space_of(net)
    seen: list[tuple[int, int]] = []
    table = measure_cost(net, (1, 6, 6), progress=lambda done, total: seen.append((done, total)))
    assert table.joint["macs"] and all(table.about["check"]["exact"].values())
    assert seen[-1][0] == seen[-1][1] and digest_of(net) == before and search_space_of(net) == state
    loaded = CostTable.from_json(table.to_json())
    assert loaded.digest == table.digest


class Sleeping(nn.Module):
    """Takes 2 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.choice = ElasticConv2d(1, 1, (1, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass
        out: torch.Tensor = self.choice(x)
        return out


@pytest.mark.alone
def test_milliseconds_block_by_block() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), ElasticDepth([Sleeping() for _ in range(3)], (1, 2, 3)))
    table = cost_table(net, (1, 4, 4), ("latency_ms", "params"), repeats=6, checks=2)
    keys = list(table.space.keys)
    costs = []
    for depth in range(3):
        tokens = [0] * 4
        tokens[keys.index("1.depth")] = depth
        costs.append(table.cost("latency_ms", tokens))
    assert 1.5 < costs[1] - costs[0] < 8 and 1.5 < costs[2] - costs[1] < 8
    about = table.about["latency_ms"]
    assert about["held_out"]["architectures"] == 12 and about["held_out"]["measured_range_ms"][0] > 1.5
    assert about["networks"] == 24 and table.about["check"]["exact"] == {"params": True}
    assert "latency_ms" in CostTable.from_json(table.to_json()).metrics


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (toy.Net(), {"metrics": ("macs", "flops")}, "metrics are .*flops.*latency_ms"),
        (toy.Net(), {"metrics": ()}, "metrics are"),
        (toy.Net(), {"metrics": ("latency_ms",), "repeats": 0}, "repeats is 0"),
        (nn.Linear(2, 2), {}, "nothing elastic"),
        (nn.Sequential(toy.Net(), InputChoice(n_candidates=2)), {}, "not elastic.*'1'"),
    ],
)
def test_bad_input(net: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CostError, match=message):
        cost_table(net, (1, 6, 6), **options)


def test_a_wrong_input_is_named() -> None:
    with pytest.raises(CostError, match="cannot be run on"):
        cost_table(toy.Net(), (5, 6, 6))
    net = nets.small("ofa_mobilenet_v3")
    apply_choices(net, {key: {"_idx": 0} for key in search_space_of(net)})
    assert cost_table(net, (3, 32, 32), checks=3).about["check"]["exact"]["macs"]  # whatever is applied
