"""Compare the SPOS supernet with its published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from mutators import apply_choices, extract
from mutators.costs import count_macs, count_params, measure_cost
from search_spaces.nets.layers.blocks import shuffle_channels, split_even_odd, split_halves
from search_spaces.nets.shufflenet_v2 import OPTIONS, PAPER, REFERENCES, STRIDES_32, ShuffleStage, build
from tests.sampling import sweep
from tests.search_spaces.nets.models import space_of, step

VARIANTS = ["megvii", "mmrazor"]
# A stage's convolutions by hand: (channels in, channels out, blocks, size of the output), 3x3 everywhere
STAGES = [(16, 64, 4, 56), (64, 160, 4, 28), (160, 320, 8, 14), (320, 640, 4, 7)]


@cache
def supernet(variant: str) -> nn.Module:
    return build(variant)


def _by_hand(variant: str, kernel: int) -> int:
    """Return the multiply-adds of a uniform architecture, from the published description alone."""
    total = 3 * 16 * 9 * 112**2 + 640 * 1024 * 7**2 + 1024 * 1000
    for first, out, depth, size in STAGES:
        half, after, before = out // 2, size**2, (2 * size) ** 2
        passed = first if variant == "megvii" else half
        total += after * first * (kernel**2 + passed)  # the bypass
        total += before * first * half + after * half * (kernel**2 + out - passed)
        total += (depth - 1) * after * half * (half + kernel**2 + half)
    return total


def test_the_table_of_references_agrees_with_arithmetic() -> None:
    given = {reference.name: reference.macs for reference in REFERENCES}
    for variant in VARIANTS:
        assert [given[f"{variant} all {k}x{k}"] for k in (3, 5, 7)] == [_by_hand(variant, k) for k in (3, 5, 7)]


def test_the_published_numbers_stand() -> None:
    """Type the numbers in once more, so that a change of the data is noticed."""
    paper = {r.name: (r.macs, r.params) for r in REFERENCES if r.tokens == PAPER}
    assert paper == {"megvii paper": (322_918_720, 3_558_464), "mmrazor paper": (321_915_200, 3_558_952)}


def test_keys_and_options() -> None:
    space = space_of(supernet("megvii"))
    assert space.keys[:5] == ("stage1.block0", "stage1.block1", "stage1.block2", "stage1.block3", "stage2.block0")
    assert space.size == 4**20
    assert all(domain.to_json() == list(OPTIONS) for domain in space.domains.values())
    assert len(PAPER) == len(space)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("size", [32, 45])
@pytest.mark.parametrize("token", [0, 3, None])
@pytest.mark.parametrize("variant", VARIANTS)
def test_any_input_size_works(variant: str, token: int | None, size: int) -> None:
    model = build(variant, num_classes=7)
    space = space_of(model)
    tokens = space.sample(np.random.default_rng(1)) if token is None else (token,) * 20
    assert step(extract(model, space.decode(tokens)), (3, size, size)).shape == (2, 7)


@pytest.mark.parametrize("variant", VARIANTS)
def test_small_grey_images(variant: str) -> None:
    model = build(
        variant,
        num_classes=10,
        in_channels=1,
        strides=STRIDES_32,
        stages=(ShuffleStage(32, 1), ShuffleStage(48, 1), ShuffleStage(64, 2), ShuffleStage(96, 1)),
    )
    network = extract(model, space_of(model).decode((0, 1, 2, 3, 0)))
    sizes = []
    network.last.register_forward_hook(lambda _, inputs, __: sizes.append(tuple(inputs[0].shape[2:])))
    assert step(network, (1, 28, 28)).shape == (2, 10)
    assert sizes == [(4, 4)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_supernet_computes_what_the_extracted_network_does(variant: str) -> None:
    model = build(variant, num_classes=10).eval()
    choices = space_of(model).decode(PAPER)
    apply_choices(model, choices)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(x), extract(model, choices)(x))


@pytest.mark.parametrize(("variant", "passed"), [("megvii", slice(0, None, 2)), ("mmrazor", slice(0, 32))])
def test_a_block_hands_half_of_its_channels_on(variant: str, passed: slice) -> None:
    block = build(variant).stage1.block1["3x3"].eval()
    x = torch.rand(1, 64, 8, 8)
    out = block(x)
    kept = out[:, 0::2] if variant == "mmrazor" else out[:, :32]
    assert torch.equal(kept, x[:, passed])


def test_shuffling_and_splitting_are_inverse() -> None:
    x = torch.arange(8.0).reshape(1, 8, 1, 1)
    assert shuffle_channels(x).flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    even, odd = split_even_odd(shuffle_channels(x))
    first, second = split_halves(x)
    assert torch.equal(even, first)
    assert torch.equal(odd, second)


def test_without_affine_batch_norms_have_no_parameters() -> None:
    model = build(affine=False)
    assert all(m.weight is None for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    network = extract(model, space_of(model).decode(PAPER))
    channels = sum(m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert count_params(network) == 3_558_464 - 2 * channels
    assert count_macs(network, (3, 224, 224)) == 322_918_720


def test_dropout_and_bias_are_the_variants() -> None:
    megvii, mmrazor = supernet("megvii"), supernet("mmrazor")
    assert (megvii.dropout.p, megvii.head.bias) == (0.1, None)
    assert mmrazor.dropout.p == 0.0
    assert mmrazor.head.bias is not None
    assert build("mmrazor", dropout=0.5).dropout.p == 0.5


def test_all_wrong_arguments_are_named_at_once() -> None:
    with pytest.raises(ValueError, match="shufflenet_v2 cannot be built") as caught:
        build(
            "nope",
            num_classes=0,
            in_channels=0,
            strides=(2, 2),
            dropout=1.0,
            stages=(ShuffleStage(15, 0), ShuffleStage(15, 1)),
        )
    message = str(caught.value)
    for part in ("'nope'", "'megvii', 'mmrazor'", "num_classes is 0", "in_channels is 0", "[2, 2]", "3 of 1 or 2",
                 "dropout is 1.0", "ShuffleStage(channels=15, depth=0) follows 16 channels"):  # fmt: skip
        assert part in message


def test_additivity_is_exact_where_stages_are_short() -> None:
    model = build("megvii", stages=(ShuffleStage(64, 2), ShuffleStage(160, 2)), strides=(2, 2, 2))
    table = measure_cost(model, (3, 64, 64), checks=8)
    assert table.about["check"]["exact"] == {"macs": True, "params": True}


@pytest.mark.parametrize("seeds", sweep(range(20), 1))
@pytest.mark.parametrize("variant", VARIANTS)
def test_additivity_is_exact(variant: str, seeds: Sequence[int]) -> None:
    """Check 10 architectures a seed."""
    for seed in seeds:
        _check_additivity(variant, seed)


def _check_additivity(variant: str, seed: int) -> None:
    table = measure_cost(supernet(variant), (3, 224, 224), checks=10, seed=seed)
    assert table.about["check"]["architectures"] == 10
    assert table.about["check"]["exact"] == {"macs": True, "params": True}
    assert table.whole("macs")
    assert table.whole("params")
    for reference in REFERENCES:
        if reference.config["variant"] == variant:
            assert table.cost("macs", reference.tokens) == reference.macs
            assert table.cost("params", reference.tokens) == reference.params
    if variant == "megvii":
        assert table.fixed["macs"] == 38_555_648  # stem, last convolution and linear layer
