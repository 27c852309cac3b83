"""Run random architectures of every net of tokens, and check their sizes and costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import search_spaces
from mutators.costs import count_macs, count_params
from search_spaces import NetError, Tokens, paddleslim
from search_spaces.cost import CostTable
from search_spaces.paddleslim.costs import cost_factors
from tests.sampling import sweep
from tests.search_spaces.nets.models import TOKEN_NETS, config_of, step

SIZES = (16, 24)
QUICK = [name for name in TOKEN_NETS if name != "DartsSpace"]
"""Its 520 convolutions take a second: it is in the slow tests, and in the conformance suite of all spaces."""
BLOCK_NETS = [name for name in TOKEN_NETS if name.endswith("BlockSpace")]


def _tokens(name: str, seed: int, **config: Any) -> Tokens:
    return search_spaces.space_of(name, **config).sample(np.random.default_rng(seed))


def _extremes(name: str, **config: Any) -> dict[str, Tokens]:
    radices = search_spaces.space_of(name, **config).radices
    return {"smallest": (0,) * len(radices), "largest": tuple(radix - 1 for radix in radices)}


def _runs(name: str, tokens: Tokens, size: int, **config: Any) -> None:
    """Run forwards and backwards; a chain of blocks has to leave its ``output_size``, a quarter of the input's."""
    chain = {**config, "input_size": size, "output_size": size // 4} if name in BLOCK_NETS else config
    net = search_spaces.build(name, tokens, num_classes=3, **chain)
    left: list[tuple[int, ...]] = []
    net.features.register_forward_hook(lambda _, __, output: left.append(tuple(output.shape[2:])))
    assert step(net, (3, size, size)).shape == (2, 3)
    assert name not in BLOCK_NETS or left == [(size // 4, size // 4)]


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("size", SIZES)
def test_random_architectures_run_without_numbers(name: str, size: int) -> None:
    config = config_of(name)
    with torch.device("meta"):
        _runs(name, _tokens(name, size, **config), size, **config)


@pytest.mark.parametrize("seeds", sweep(range(20), 2))
@pytest.mark.parametrize("name", TOKEN_NETS)
def test_random_architectures_and_the_smallest_run(name: str, seeds: Sequence[int]) -> None:
    config = config_of(name)
    for tokens in [*(_tokens(name, seed, **config) for seed in seeds), _extremes(name, **config)["smallest"]]:
        for size in SIZES:
            _runs(name, tokens, size, **config)


@pytest.mark.slow
@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", TOKEN_NETS)
def test_the_largest_runs(name: str) -> None:
    config = {"input_size": 8, "output_size": 4, "block_num": 1} if name in BLOCK_NETS else {}
    tokens = _extremes(name, **config)["largest"]
    assert step(search_spaces.build(name, tokens, num_classes=3, **config), (3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize("name", BLOCK_NETS)
@pytest.mark.parametrize("mask", [[0, 0], [1], [1, 0, 1]])
def test_a_mask_decides_the_size(name: str, mask: list[int]) -> None:
    with torch.device("meta"):
        net = search_spaces.build(name, num_classes=None, block_mask=mask)
        assert net(torch.empty(2, 3, 21, 24)).shape[2:] == {0: (21, 24), 1: (11, 12), 2: (6, 6)}[sum(mask)]


def _assert_exact(table: CostTable, name: str, tokens: Tokens, shape: tuple[int, int, int], **config: Any) -> None:
    with torch.device("meta"):
        net = search_spaces.build(name, tokens, **config)
    assert table.cost("macs", tokens) == count_macs(net, shape)
    assert table.cost("params", tokens) == count_params(net)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("paddle", [False, True])
@pytest.mark.parametrize("name", QUICK)
def test_costs_are_exact(name: str, paddle: bool) -> None:
    config, shape = {**config_of(name), "num_classes": 7, "paddle_compatible": paddle}, (3, 31, 40)
    table = paddleslim.cost_table_of(name, shape, **config)
    _assert_exact(table, name, table.space.sample(np.random.default_rng(int(paddle))), shape, **config)


@pytest.mark.parametrize("seeds", sweep(range(20), 2))
@pytest.mark.parametrize("paddle", [False, True])
@pytest.mark.parametrize("name", TOKEN_NETS)
def test_costs_of_longer_chains_are_exact(name: str, paddle: bool, seeds: Sequence[int]) -> None:
    chain = {"input_size": 32, "output_size": 8, "block_num": 5} if name in BLOCK_NETS else {}
    config, shape = {**chain, "in_channels": 4, "num_classes": None, "paddle_compatible": paddle}, (4, 32, 32)
    table = paddleslim.cost_table_of(name, shape, **config)
    for seed in seeds:
        _assert_exact(table, name, table.space.sample(np.random.default_rng(seed)), shape, **config)


def test_a_table_is_of_the_nets_space_and_can_be_saved(tmp_path: Any) -> None:
    table = paddleslim.cost_table_of("MobileNetV2BlockSpace", (3, 32, 32), 10, **config_of("MobileNetV2BlockSpace"))
    assert table.space == search_spaces.space_of("MobileNetV2BlockSpace", **config_of("MobileNetV2BlockSpace"))
    assert table.whole("macs") and table.whole("params")
    table.save(tmp_path / "cost.json")
    assert CostTable.load(tmp_path / "cost.json").digest == table.digest


def test_a_cost_that_cannot_be_asked_for() -> None:
    with pytest.raises(NetError) as caught:
        paddleslim.cost_table_of("ResNetSpace", (3, 0, 32), num_classes=0, in_channels=1)
    for part in ("num_classes is 0", "input_shape is 0", "in_channels is 1, but input_shape (3, 0, 32) has 3"):
        assert part in str(caught.value)
    with pytest.raises(NetError, match="takes no 'scale'"):
        cost_factors("ResNetSpace", (3, 32, 32), scale=2)


def test_a_candidate_is_built_counted_and_run() -> None:
    """Build, count and run one; ``tests.benchmarks.token_candidate`` measures the time."""
    net = search_spaces.build("MobileNetV2Space", paddleslim.initial_tokens("MobileNetV2Space"))
    assert count_macs(net, (3, 224, 224)) == 313_619_328
    with torch.no_grad():
        assert net.eval()(torch.rand(1, 3, 224, 224)).shape == (1, 1000)


def test_weights_need_no_global_generator_for_tokens() -> None:
    """Draw a block space's initial tokens, which leaves torch's and NumPy's generators alone."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    paddleslim.initial_tokens("InceptionABlockSpace", **config_of("InceptionABlockSpace"))
    assert torch.equal(before, torch.get_rng_state())


def test_a_network_is_an_ordinary_module() -> None:
    """Load its weights into another network of the same tokens, which then computes the same."""
    first, second = (search_spaces.build("MobileNetV1BlockSpace", block_mask=[1, 0], num_classes=2) for _ in range(2))
    assert isinstance(first, nn.Module)
    second.load_state_dict(first.state_dict())
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(first.eval()(x), second.eval()(x))
