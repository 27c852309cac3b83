"""Test Once-for-all's nets: counts to the unit, and sub-networks that compute the same as the supernet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn

import search_spaces
from mutators import RandomMutator, extract
from mutators.choices.value_choice import ValueChoice
from mutators.costs import count_macs, count_params
from mutators.elastic.layers import Channels
from mutators.elastic.layers.layer import Elastic
from mutators.elastic.mit_config import ElasticNetwork
from search_spaces.nets import ofa_mobilenet_v3, ofa_resnet50
from search_spaces.nets.layers.ofa_blocks import make_divisible
from tests.mutators.elastic.nets import configs_of, full, small
from tests.sampling import sweep

NETS = ("ofa_mobilenet_v3", "ofa_resnet50")
SMALLEST: dict[str, Mapping[str, Any]] = {
    "ofa_mobilenet_v3": {"ks": 3, "e": 3, "d": 2},
    "ofa_resnet50": {"e": 0.2, "d": 0, "w": 0},
}


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("name", "config", "classes", "params", "macs_64", "macs_224"),
    [
        ("ofa_mobilenet_v3", {}, 10, 6_396_570, 49_554_816, 564_903_456),
        ("ofa_mobilenet_v3", SMALLEST["ofa_mobilenet_v3"], 10, 2_142_602, 11_189_952, 120_011_472),
        ("ofa_mobilenet_v3", {}, 1000, 7_664_760, 50_822_016, 566_170_656),
        ("ofa_resnet50", {}, 10, 46_077_482, 611_416_064, 7_489_616_384),
        ("ofa_resnet50", SMALLEST["ofa_resnet50"], 10, 5_223_570, 78_451_168, 960_877_408),
    ],
)
def test_counts_are_mits(
    name: str, config: Mapping[str, Any], classes: int, params: int, macs_64: int, macs_224: int
) -> None:
    with torch.device("meta"):
        plain = search_spaces.build(name, num_classes=classes).extract(config)  # type: ignore[operator]
    assert count_params(plain) == params
    assert (count_macs(plain, (3, 64, 64)), count_macs(plain, (3, 224, 224))) == (macs_64, macs_224)


def test_the_supernet_has_mits_parameters() -> None:
    net = search_spaces.build("ofa_mobilenet_v3", num_classes=10)
    assert count_params(net) == 6_410_690
    assert sum(p.numel() for name, p in net.named_parameters() if name.endswith("_matrix")) == 14_120


def _norm(n: int) -> int:
    return 2 * n


def _mobilenet_params(config: Mapping[str, Sequence[float]], stages: Sequence[ofa_mobilenet_v3.MobileNetStage]) -> int:
    """Return the parameters of a sub-network in closed form."""
    total = 3 * 16 * 9 + _norm(16) + 16 * 9 + _norm(16) + 16 * 16 + _norm(16)
    n_in, slot = 16, 0
    for stage, depth in zip(stages, config["d"], strict=True):
        for i in range(max(stage.depths)):
            if i < depth:
                inner = make_divisible(round(n_in * config["e"][slot]))
                quarter = make_divisible(inner // 4)
                total += n_in * inner + _norm(inner) + inner * int(config["ks"][slot]) ** 2 + _norm(inner)
                total += 2 * inner * quarter + inner + quarter if stage.squeeze else 0
                total += inner * stage.channels + _norm(stage.channels)
            n_in, slot = stage.channels, slot + 1
    return total + n_in * 960 + _norm(960) + 960 * 1280 + 1280 * 10 + 10


def _resnet_params(config: Mapping[str, Sequence[float]], stages: Sequence[ofa_resnet50.ResNetStage]) -> int:
    """Return the parameters of a sub-network in closed form."""
    factors = [ofa_resnet50.WIDTHS[int(index)] for index in config["w"]]
    half = make_divisible(make_divisible(64 * factors[0]) // 2)
    n_in = make_divisible(64 * factors[1])
    total = 27 * half + _norm(half) + 9 * half * n_in + _norm(n_in)
    total += 9 * half**2 + _norm(half) if config["d"][0] else 0
    slot = 0
    for stage, depth, factor in zip(stages, config["d"][1:], factors[2:], strict=True):
        out = make_divisible(stage.channels * factor)
        for i in range(stage.blocks + max(stage.depths)):
            inner = make_divisible(round(out * config["e"][slot]))
            slot += 1
            if i < stage.blocks + depth:
                total += n_in * inner + 9 * inner**2 + inner * out + 2 * _norm(inner) + _norm(out)
                total += n_in * out + _norm(out) if i == 0 else 0
                n_in = out
    return total + n_in * 10 + 10


CLOSED: dict[str, Callable[..., int]] = {"ofa_mobilenet_v3": _mobilenet_params, "ofa_resnet50": _resnet_params}
STAGES: dict[str, Sequence[Any]] = {"ofa_mobilenet_v3": ofa_mobilenet_v3.STAGES, "ofa_resnet50": ofa_resnet50.STAGES}


def _same_logits(got: torch.Tensor, wanted: torch.Tensor) -> None:
    assert wanted.isfinite().all()
    assert ((got - wanted).abs() <= 1e-5 * wanted.abs().clamp(min=1)).all()


def _is_plain(network: nn.Module) -> None:
    assert type(network) is nn.Sequential
    for module in network.modules():
        assert not isinstance(module, (Elastic, ValueChoice, ElasticNetwork))
        assert not type(module).__module__.startswith("mutators")
        assert not any(isinstance(value, (Channels, ValueChoice)) for value in vars(module).values())


@torch.no_grad()
def _exports_what_it_computes(
    net: ElasticNetwork, n: int, params: Callable[[Mapping[str, Any]], int] | None, seed: int = 0
) -> None:
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    spread = []
    for config in configs_of(net, n, seed):
        plain = net.extract(config)
        net.set_config(config)
        logits = net(x)
        _same_logits(plain(x), logits)
        _is_plain(plain)
        if params is not None:
            assert count_params(plain) == params(config)
        spread.append(logits)
    assert torch.stack(spread).std(0).min() > 0  # sub-networks do differ


@pytest.mark.parametrize("name", NETS)
def test_small_nets_export_what_they_compute(name: str) -> None:
    _exports_what_it_computes(small(name), 10, None)


@pytest.mark.parametrize("seeds", sweep(range(5), 1))
@pytest.mark.parametrize("name", NETS)
def test_sub_networks_export_what_they_compute(name: str, seeds: Sequence[int]) -> None:
    """Check ten sub-networks a seed."""
    net = full(name)
    for seed in seeds:
        _exports_what_it_computes(net, 10, lambda config: CLOSED[name](config, STAGES[name]), seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_extracted_nets_have_no_unused_channel(name: str) -> None:
    with torch.device("meta"):
        net = search_spaces.build(name, num_classes=10)
    for config in configs_of(net, 5, seed=3):  # type: ignore[arg-type]
        assert count_params(extract(net, net.choices_of(config))) == CLOSED[name](config, STAGES[name])  # type: ignore[operator]


@pytest.mark.parametrize("name", NETS)
def test_it_trains_and_a_mutator_steers_it(name: str) -> None:
    net = small(name).train()
    x = torch.randn(4, 3, 32, 32)
    net(x).square().mean().backward()
    assert all(p.grad is not None for key, p in net.named_parameters() if not key.endswith("_matrix"))
    mutator = RandomMutator(net, seed=0)
    for _ in range(3):
        mutator.reset()
        plain = extract(net, {key: {"_idx": mask.index(True)} for key, mask in mutator.export_json().items()})
        torch.testing.assert_close(plain.train()(x), net.train()(x))


@pytest.mark.parametrize("name", NETS)
def test_every_elastic_layer_knows_its_layouts(name: str) -> None:
    found = [
        (path, layout)
        for path, layer in small(name).named_modules()
        if isinstance(layer, Elastic)
        for layout in ("inputs", "outputs", "channels")
        if layout in vars(layer)
    ]
    assert found
    net = dict(small(name).named_modules())
    assert all(vars(net[path])[layout] is not None for path, layout in found)


@pytest.mark.parametrize("name", NETS)
def test_bad_arguments_are_listed(name: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)num_classes is 0.*stages is 0.*dropout is 1"):
        search_spaces.build(name, num_classes=0, stages=(), dropout=1.0)
    with pytest.raises(ValueError, match=r"(?s)num_classes is '10', wanted a whole number.*dropout is 'a'"):
        search_spaces.build(name, num_classes="10", dropout="a")


def test_make_divisible_rounds_and_keeps_ninety_percent() -> None:
    for value in range(1, 400):
        n = make_divisible(value)
        assert n % 8 == 0
        assert n >= max(8, 0.9 * value)
        assert n <= max(8, value + 8)
