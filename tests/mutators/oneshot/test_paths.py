"""What the strategies draw: counts in closed form, distributions, and that a path is a function of seed and step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from mutators.oneshot import OneShotError, macs_bins
from mutators.oneshot.paths import MEGVII_BINS, Paths, fair, uniform
from mutators.oneshot.rng import get_rng_state
from search_spaces import Space
from search_spaces.cost import CostTable
from search_spaces.errors import CostError
from tests.mutators.oneshot import nets


def space_of(*radices: int) -> Space:
    layers = {f"k{i}": {"_type": "layer_choice", "_value": [str(j) for j in range(r)]} for i, r in enumerate(radices)}
    return Space.from_json(layers)


def table_of(space: Space) -> CostTable:
    """The i-th option of each key costs i, on top of 100."""
    return CostTable(
        space, {"macs": 100}, {"macs": {k: range_of(r) for k, r in zip(space.keys, space.radices, strict=True)}}
    )


def range_of(radix: int) -> list[float]:
    return [float(i) for i in range(radix)]


FOUR = space_of(4, 4, 4)
STRATEGIES: dict[str, Callable[[int], Paths]] = {
    "uniform": lambda seed: uniform(FOUR, seed),
    "fair": lambda seed: fair(FOUR, seed),
    "macs_bins": lambda seed: macs_bins(FOUR, table_of(FOUR), seed, bounds=(100, 103, 109)),
}


@pytest.mark.parametrize("name", STRATEGIES)
class TestEach:
    def test_a_path_is_a_function_of_seed_and_step(self, name: str) -> None:
        forwards = [STRATEGIES[name](3)(step) for step in range(40)]
        again = STRATEGIES[name](3)
        assert [again(step) for step in reversed(range(40))] == forwards[::-1]
        assert [STRATEGIES[name](4)(step) for step in range(40)] != forwards

    def test_no_global_generator_is_touched(self, name: str) -> None:
        before = get_rng_state()
        STRATEGIES[name](0)(5)
        assert nets.same(get_rng_state(), before)

    def test_paths_are_of_the_space(self, name: str) -> None:
        for step in range(20):
            for tokens in STRATEGIES[name](0)(step):
                assert len(tokens) == 3 and all(type(t) is int and 0 <= t < 4 for t in tokens)


def test_uniform_is_uniform() -> None:
    space, n = space_of(3, 4), 6000
    paths = uniform(space)
    counts = Counter(paths(step)[0] for step in range(n))
    assert sum((counts[a, b] - n / 12) ** 2 / (n / 12) for a in range(3) for b in range(4)) < 31.3  # 99.9 %, 11 dof


def test_uniform_over_the_options_of_an_input_choice() -> None:
    space = Space.from_json({"in": {"_type": "input_choice", "_value": {"candidates": ["a", "b"], "n_chosen": [1, 2]}}})
    assert set(uniform(space)(0)[0]) <= {0, 1, 2}


def test_each_group_of_fair_runs_each_option_exactly_once() -> None:
    paths = fair(space_of(4, 4, 4, 4), seed=7)
    for step in range(50):
        group = paths(step)
        assert len(group) == 4
        assert all(sorted(column) == [0, 1, 2, 3] for column in zip(*group, strict=True))


def test_fair_joins_the_keys_independently() -> None:
    paths = fair(space_of(3, 3))
    pairs = Counter(tokens for step in range(1000) for tokens in paths(step))
    assert sum((pairs[a, b] - 1000 / 3) ** 2 / (1000 / 3) for a in range(3) for b in range(3)) < 24  # 99.9 %, 8 dof


@pytest.mark.parametrize("radices", [(4, 3, 2), (5, 1), (2, 7, 3)])
def test_fair_with_keys_of_different_sizes_never_leaves_an_option_behind(radices: tuple[int, ...]) -> None:
    paths = fair(space_of(*radices), seed=1)
    counts = [Counter(dict.fromkeys(range(radix), 0)) for radix in radices]
    for step in range(30):
        for tokens in paths(step):
            for count, token in zip(counts, tokens, strict=True):
                count[token] += 1
                assert max(count.values()) - min(count.values()) <= 1


def test_fair_refuses_what_cannot_be_run_at_once() -> None:
    space = Space.from_json(
        {"in": {"_type": "input_choice", "_value": {"candidates": list("abcdefg"), "n_chosen": None}}}
    )
    with pytest.raises(OneShotError, match="'in' has 128 options"):
        fair(space)


def test_bins_are_hit_evenly_and_the_costs_lie_in_them() -> None:
    """Costs 100 to 109; far from even by themselves: of 64 architectures 4 cost at most 101, 20 103 to 104."""
    table = table_of(FOUR)
    paths = macs_bins(FOUR, table, bounds=(100, 101, 102.5, 104))
    costs = np.array([table.cost("macs", paths(step)[0]) for step in range(1500)])
    assert costs.max() <= 104
    shares = [(costs <= 101).mean(), (costs == 102).mean(), (costs > 102.5).mean()]
    # A cost of 101 is in the first two bins: of the second bin's draws 3/9 have it.
    assert np.allclose(shares, [1 / 3 + 1 / 3 * 3 / 9, 1 / 3 * 6 / 9, 1 / 3], atol=0.05)


def test_a_bin_that_nothing_is_in_gives_any_architecture() -> None:
    paths = macs_bins(FOUR, table_of(FOUR), bounds=(100.2, 100.8, 100.9, 109), tries=7)
    costs = {table_of(FOUR).cost("macs", paths(step)[0]) for step in range(300)}
    assert 100 in costs  # in no bin at all


def test_seven_bins_as_published() -> None:
    assert MEGVII_BINS == (290e6, 300e6, 310e6, 320e6, 330e6, 340e6, 350e6, 360e6)


@pytest.mark.parametrize("bounds", [(1,), (2, 1), (1, 1), (0, float("nan"))])
def test_bounds_have_to_ascend(bounds: tuple[float, ...]) -> None:
    with pytest.raises(OneShotError, match="ascending"):
        macs_bins(FOUR, table_of(FOUR), bounds=bounds)


def test_bins_of_a_table_with_joint_terms() -> None:
    table = CostTable(FOUR, {"macs": 100}, {}, joint={"macs": [(("k0", "k2"), np.outer(range(4), range(4)))]})
    paths = macs_bins(FOUR, table, bounds=(104.5, 109))
    assert {(tokens[0], tokens[2]) for step in range(50) for tokens in paths(step)} == {(2, 3), (3, 2), (3, 3)}
    with pytest.raises(OneShotError, match="from 100 to 109"):
        macs_bins(FOUR, table, bounds=(110, 120))


def test_bins_that_no_architecture_can_be_in() -> None:
    with pytest.raises(OneShotError, match="from 100 to 109"):
        macs_bins(FOUR, table_of(FOUR))
    with pytest.raises(CostError, match="no metric"):
        macs_bins(FOUR, table_of(FOUR), metric="latency_ms")
    with pytest.raises(CostError, match="another search space"):
        macs_bins(FOUR, table_of(space_of(4, 4)))
