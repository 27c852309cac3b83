"""Compare ShuffleNetV2 with searched channels with closed forms, and sub-networks with the supernet's paths."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import search_spaces
from mutators import apply_choices, extract
from mutators.costs import count_macs, count_params, measure_cost
from mutators.oneshot import TrainConfig, evaluate, recalibrate_bn, train_supernet
from mutators.oneshot.paths import Paths, uniform
from mutators.subnet.folder import load_subnet, save_subnet
from search_spaces import Space
from search_spaces.cost import CostTable
from search_spaces.nets.shufflenet_v2 import OPTIONS, PAPER, SCALES, STAGES, VARIANTS, ShuffleStage, build
from tests.search_spaces.nets.models import space_of, step

SMALL = (ShuffleStage(36, 2),)
PUBLISHED = tuple(token for kind in PAPER for token in (kind, SCALES.index(1.0)))
"""The paper's network, of blocks as wide as published."""


def small(variant: str = "megvii", seed: int = 0, **options: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(variant, 5, strides=(1, 2), stages=SMALL, **{"channel_search": True, **options})


@cache
def table_of(variant: str) -> CostTable:
    return measure_cost(small(variant), (3, 16, 16), checks=1)


def batches(n: int = 6, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    pairs = [(torch.rand(8, 3, 16, 16, generator=generator), torch.arange(8) % 5) for _ in range(n)]
    return [(x + 0.2 * y.reshape(-1, 1, 1, 1), y) for x, y in pairs]


def some_tokens(space: Space, n: int) -> list[tuple[int, ...]]:
    """Return the narrowest, the widest, and n random architectures."""
    ends = [tuple(0 if low else radix - 1 for radix in space.radices) for low in (True, False)]
    return ends + [tuple(row) for row in space.sample_tokens(np.random.default_rng(0), n).tolist()]


def by_hand(
    variant: str, tokens: Sequence[int], stages: Sequence[ShuffleStage], size: int, classes: int
) -> tuple[int, int]:
    """Return multiply-adds and parameters from the published description; images after the stem are of ``size``."""
    macs, params = 3 * 16 * 9 * size**2, 3 * 16 * 9 + 2 * 16
    pairs, width = iter(zip(tokens[::2], tokens[1::2], strict=True)), 16
    for stage in stages:
        for block in range(stage.depth):
            kind, scale = next(pairs)
            half, k = stage.channels // 2, (3, 5, 7, 3)[kind]
            mid = half * (scale + 1) // 5
            before, after = (size**2, (size // 2) ** 2) if block == 0 else (size**2, size**2)
            first, last = half, half
            if block == 0:
                passed = width if variant == "megvii" else half
                first, last = width, stage.channels - passed
                macs += after * (width * k**2 + width * passed)
                params += width * k**2 + width * passed + 2 * (width + passed)
            if OPTIONS[kind] == "xception":
                macs += after * (9 * first + first * mid + 9 * mid + mid * mid + 9 * mid + mid * last)
                params += 9 * first + first * mid + 9 * mid + mid * mid + 9 * mid + mid * last
                params += 2 * (first + 4 * mid + last)
            else:
                macs += before * first * mid + after * (k**2 * mid + mid * last)
                params += first * mid + k**2 * mid + mid * last + 2 * (2 * mid + last)
            size = size // 2 if block == 0 else size
        width = stage.channels
    head = 1024 * classes
    return macs + width * 1024 * size**2 + head, params + width * 1024 + 2 * 1024 + head + classes * (
        variant == "mmrazor"
    )


def test_keys_options_and_widths() -> None:
    with torch.device("meta"):
        model = build(channel_search=True)
    space = space_of(model)
    assert space.keys[:3] == ("stage1.block0", "stage1.block0.channels", "stage1.block1")
    assert space.domains["stage4.block3.channels"].to_json() == [str(k / 5) for k in range(1, 11)]
    assert (space.size, space.when) == (40**20, {})
    for i, stage in enumerate(STAGES, 1):
        (width, _), *_ = model.get_submodule(f"stage{i}.block1")["7x7"].main[0].outputs.segments  # type: ignore[index]
        assert [width.sizes[(k - 1,)] for k in range(1, 11)] == [
            int(stage.channels // 2 * 0.2 * k) for k in range(1, 11)
        ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_costs_are_the_closed_forms(variant: str) -> None:
    table, net = table_of(variant), small(variant)
    assert table.about["check"]["exact"] == {"macs": True, "params": True}
    assert [len(keys) for keys, _ in table.terms("macs")] == [2, 2]
    for tokens in some_tokens(table.space, 300):
        assert (table.cost("macs", tokens), table.cost("params", tokens)) == by_hand(variant, tokens, SMALL, 16, 5)
    for tokens in some_tokens(table.space, 2):
        network = extract(net, table.space.decode(tokens))
        assert (count_macs(network, (3, 16, 16)), count_params(network)) == by_hand(variant, tokens, SMALL, 16, 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "macs", "params"), [("megvii", 322_918_720, 3_558_464), ("mmrazor", 321_915_200, 3_558_952)]
)
def test_costs_at_full_size(variant: str, macs: int, params: int) -> None:
    with torch.device("meta"):
        net = build(variant, channel_search=True)
    space = space_of(net)
    for tokens in [PUBLISHED, *some_tokens(space, 1)]:
        network = extract(net, space.decode(tokens))
        costs = count_macs(network, (3, 224, 224)), count_params(network)
        assert costs == by_hand(variant, tokens, STAGES, 112, 1000)
        assert costs == (macs, params) or tokens != PUBLISHED


@pytest.mark.sampled(1)
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_extracted_network_is_plain_and_computes_what_the_path_does(variant: str) -> None:
    net, x = small(variant), torch.rand(4, 3, 16, 16)
    space, valid = space_of(net), batches(2, seed=1)
    train_supernet(net, batches(), TrainConfig(epochs=1), progress=False)
    for tokens in some_tokens(space, 1):
        choices = space.decode(tokens)
        network = extract(net, choices)
        assert {type(m).__module__.partition(".")[0] for m in network.modules()} <= {"torch", "search_spaces"}
        assert {type(m).__name__ for m in network.modules() if not list(m.children())} <= {
            "Conv2d", "BatchNorm2d", "ReLU", "Dropout", "Linear"}  # fmt: skip
        scores = [
            evaluate(model, chosen, valid, batches(), metric=F.cross_entropy)["default"]
            for model, chosen in ((net, choices), (network, {}))
        ]
        assert scores[0] == scores[1]
        apply_choices(net, choices)
        for model in (net, network):
            recalibrate_bn(model, batches())
        with torch.no_grad():
            assert torch.equal(net.eval()(x), network.eval()(x))


def test_a_path_runs_the_first_part_of_each_weight() -> None:
    net = small()
    space = space_of(net)
    network = extract(net, space.decode((3, 1, 1, 6)))  # 7 and 25 channels inside
    for block, candidate in (("stage1.block0", "xception"), ("stage1.block1", "5x5")):
        wholes = dict(net.get_submodule(block)[candidate].named_parameters())  # type: ignore[index]
        for path, weight in network.get_submodule(block).named_parameters():
            part = wholes[path][: weight.size(0)]
            assert torch.equal(weight, part[:, : weight.size(1)] if weight.dim() > 1 else part)
    shapes = [tuple(m.weight.shape[:2]) for m in network.stage1.block0.main if isinstance(m, nn.Conv2d)]
    assert shapes == [(16, 1), (7, 16), (7, 1), (7, 7), (7, 1), (20, 7)]


def test_networks_as_wide_as_published_are_those_of_the_space_without_channels() -> None:
    plain = small(channel_search=False)
    wide = extract(small(), space_of(small()).decode((2, 4, 3, 4)))
    narrow = extract(plain, space_of(plain).decode((2, 3)))
    assert {k: v.shape for k, v in wide.state_dict().items()} == {k: v.shape for k, v in narrow.state_dict().items()}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("affine", [True, False])
def test_steps_of_the_narrowest_the_widest_and_a_random_network(affine: bool, which: int) -> None:
    net = small("mmrazor", affine=affine)
    space = space_of(net)
    assert step(extract(net, space.decode(some_tokens(space, 1)[which])), (3, 16, 16)).shape == (2, 5)


def test_a_training_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    draw, file = uniform(space_of(small())), tmp_path / "checkpoint.pt"

    def dying(number: int) -> Any:
        if number == 9:
            raise KeyboardInterrupt
        return draw(number)

    def fit(net: nn.Module, paths: Paths, checkpoint: Path | None, seed: int = 0) -> list[float]:
        config = TrainConfig(epochs=2, checkpoint_every=2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # of the dropout
            return train_supernet(net, batches(), config, paths=paths, checkpoint=checkpoint, progress=False)

    unbroken, resumed = small(), small(seed=1)
    losses = fit(unbroken, draw, None)
    with pytest.raises(KeyboardInterrupt):
        fit(small(), dying, file)
    assert fit(resumed, draw, file, seed=1) == losses
    ours, theirs = resumed.state_dict(), unbroken.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_saved_by_name_and_loaded(tmp_path: Path) -> None:
    config = {"num_classes": 10, "channel_search": True}
    net, x = search_spaces.build("shufflenet_v2", **config), torch.rand(2, 3, 64, 64)
    choices = search_spaces.choices_of("shufflenet_v2", (0, 1) * 20, **config)
    save_subnet(tmp_path, net, choices, factory="shufflenet_v2", factory_args=config)
    with torch.no_grad():
        assert torch.equal(load_subnet(tmp_path)(x), extract(net, choices).eval()(x))
