"""Constraints: what is feasible is counted, drawn uniformly, never left, and exhausted exactly."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import Run, load
from nas_tuners.search import (
    Annealing,
    ConstraintError,
    Evolution,
    RandomSearch,
    Search,
    Shrinking,
)
from nas_tuners.search.feasible.constraints import Caps, Feasible
from nas_tuners.search.feasible.halves import Halves
from nas_tuners.search.feasible.trellis import Trellis, steps_of
from search_spaces import Space
from search_spaces.cost import CostTable
from search_spaces.cost.limits import Limit, limits_of
from search_spaces.errors import CostError

SEARCHES = [RandomSearch, Annealing, Evolution, Shrinking]


def space_of(*radices: int) -> Space:
    return Space.from_json({f"k{i}": {"_type": "randint", "_value": [0, radix]} for i, radix in enumerate(radices)})


def table_of(costs: list[list[float]], fixed: float = 0, metric: str = "macs", **more: list[list[float]]) -> CostTable:
    space, named = space_of(*map(len, costs)), {metric: costs, **more}
    options = {m: dict(zip(space.keys, rows, strict=True)) for m, rows in named.items()}
    return CostTable(space, {m: fixed if m == metric else 0 for m in named}, options)


def every(table: CostTable, low: float, high: float) -> list[tuple[int, ...]]:
    all_of = itertools.product(*map(range, table.space.radices))
    return [tokens for tokens in all_of if low <= table.cost("macs", tokens) <= high]


BINARY = table_of([[0, 2**i] for i in range(10)])  # every sum from 0 to 1023 just once
WIDE = table_of([[10**6 + i * 37 + j * (1000 + i) for j in range(4)] for i in range(20)], fixed=38_600_000)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"flops": 1}, "no metric"),
        ({"macs": "one"}, "wanted the highest cost"),
        ({"macs": True}, "wanted the highest cost"),
        ({"macs": float("nan")}, "wanted the highest cost"),
        ({"macs": [None, None]}, "wanted the highest cost"),
        ({"macs": [1, 2, 3]}, "wanted the highest cost"),
        ({"macs": [2, 1]}, "empty range"),
        ([("macs", 1)], "constraints is"),
    ],
)
def test_malformed_constraints_are_refused_at_once(given_: Any, said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        RandomSearch(constraints=given_, cost_table=BINARY)


def test_a_constraint_needs_a_table() -> None:
    with pytest.raises(ConstraintError, match="needs cost_table="):
        RandomSearch(constraints={"macs": 1})
    with pytest.raises(ConstraintError, match="wanted the path"):
        RandomSearch(constraints={"macs": 1}, cost_table=7)  # type: ignore[arg-type]
    with pytest.raises(CostError, match="cannot read"):
        RandomSearch(constraints={"macs": 1}, cost_table="/nowhere/costs.json")


def test_a_table_of_another_space_is_refused() -> None:
    with pytest.raises(CostError, match="k9"):
        RandomSearch(constraints={"macs": 1}, cost_table=BINARY).setup(space_of(*[2] * 9))


@pytest.mark.parametrize(
    ("limit", "count"), [(0, 1), (511, 512), ([256, 511], 256), ([512, None], 512), ([7, 7], 1), (2000, 1024)]
)
@pytest.mark.parametrize("cls", SEARCHES)
def test_share_is_counted_and_the_feasible_are_exhausted(cls: type[Search], limit: Any, count: int) -> None:
    search = cls(constraints={"macs": limit}, cost_table=BINARY, seed=1)  # type: ignore[call-arg]
    search.setup(BINARY.space)
    assert search.feasible_share == count / 1024 and search.feasible_share_exact
    asked = [p.tokens for _ in range(count // 10) for p in search.ask(7)]
    asked += [p.tokens for p in search.ask(2000)]
    assert len(asked) == len(set(asked)) == count and search.exhausted and search.finished
    assert all(search.feasible(tokens) for tokens in asked) and search.ask(1) == []


@pytest.mark.parametrize("limit", [38_600_000, [None, 1], [90e6, None]])
def test_an_impossible_limit_names_the_nearest_cost(limit: Any) -> None:
    lowest = WIDE.cost("macs", (0,) * 20)
    highest = WIDE.cost("macs", (3,) * 20)
    wanted = highest if isinstance(limit, list) and limit[1] is None else lowest
    with pytest.raises(ConstraintError, match=f"{wanted:.10g}"):
        RandomSearch(constraints={"macs": limit}, cost_table=WIDE).setup(WIDE.space)


@pytest.mark.parametrize("caps", [Caps(), Caps(sums=1)])
def test_a_gap_between_reachable_costs_is_named(caps: Caps) -> None:
    gap = table_of([[0, 100]] * 24, fixed=7)
    with pytest.raises(ConstraintError, match="nearest reachable macs is 1207"):
        Feasible(gap.space, gap, limits_of({"macs": [1210, 1300]}), caps)


def test_limits_that_contradict_each_other() -> None:
    table = table_of([[0, 1, 2, 3]] * 20, params=[[3, 2, 1, 0]] * 20)
    with pytest.raises(ConstraintError, match="nearest has macs"):
        RandomSearch(constraints={"macs": 20, "params": 20}, cost_table=table).setup(table.space)


@pytest.mark.slow
def test_a_range_too_narrow_to_draw_from_is_an_error_and_no_endless_loop() -> None:
    rng = np.random.default_rng(1)
    table = table_of([rng.integers(10**5, 3 * 10**7, 9).tolist() for _ in range(25)])
    with pytest.raises(ConstraintError, match=r"too few to search|none was found"):
        RandomSearch(constraints={"macs": [300_000_000, 300_000_001]}, cost_table=table).setup(table.space)


costs = st.lists(
    st.lists(st.integers(0, 30) | st.floats(0, 30, width=32), min_size=1, max_size=5), min_size=1, max_size=5
)


@settings(max_examples=150, deadline=None)
@given(costs, st.floats(0, 100), st.floats(0, 60))
def test_both_samplers_find_the_feasible_and_no_other(rows: list[list[float]], low: float, width: float) -> None:
    table = table_of(rows)
    wanted = set(every(table, low, low + width))
    columns, half, limit = table.columns("macs"), len(rows) // 2, Limit("macs", low, low + width)
    steps = steps_of(table.space.radices, table.terms("macs"))
    assert steps is not None
    for sampler in (Halves(columns, limit, range(half)), Trellis(steps, limit, table.whole("macs"))):
        if not sampler.share > 0:
            assert not wanted
            continue
        found = set(map(tuple, sampler.every().tolist()))
        drawn = set(map(tuple, sampler.draw(np.random.default_rng(0), 50).tolist()))
        assert wanted <= found and drawn <= found
        if sampler.exact:
            assert {t for t in found if low - 1e-9 <= table.cost("macs", t) <= low + width + 1e-9} == found
            assert sampler.count == len(found)


@pytest.mark.parametrize("how", ["listed", "halves", "trellis", "coarse trellis"])
def test_draws_are_uniform_over_the_feasible(how: str) -> None:
    table = table_of([[3, 1, 4.5 if how == "coarse trellis" else 4], [1, 5, 9], [2, 6, 5], [3, 5, 8, 9]])
    wanted = every(table, 13, 20)
    caps = {
        "listed": Caps(),
        "halves": Caps(listed=0),
        "trellis": Caps(listed=0, sums=1),
        "coarse trellis": Caps(listed=0, sums=1, bins=64),
    }[how]
    feasible = Feasible(table.space, table, limits_of({"macs": [13, 20]}), caps)
    n = 200 * len(wanted)
    seen = Counter(map(tuple, feasible.sample(np.random.default_rng(5), n).tolist()))
    assert set(seen) == set(wanted)
    chi_square = sum((seen[tokens] - 200) ** 2 / 200 for tokens in wanted)
    freedom = len(wanted) - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)
    assert feasible.share == pytest.approx(
        len(wanted) / table.space.size, rel=0.2 if how == "coarse trellis" else 1e-12
    )


@pytest.mark.parametrize("caps", [Caps(), Caps(sums=1)])
def test_a_limit_met_by_one_in_a_million_costs_no_more(caps: Caps) -> None:
    sums = WIDE.costs("macs", WIDE.space.sample_tokens(np.random.default_rng(0), 2**16))
    limit = float(sums.mean() - 4.75 * sums.std())
    feasible = Feasible(WIDE.space, WIDE, limits_of({"macs": limit}), caps)
    assert 1e-8 < feasible.share < 1e-5
    drawn = feasible.sample(np.random.default_rng(1), 5000)
    assert len(set(map(tuple, drawn.tolist()))) > 4900 and (WIDE.costs("macs", drawn) <= limit).all()
    search = Evolution(constraints={"macs": limit}, cost_table=WIDE)
    search.setup(WIDE.space)
    asked = [p.tokens for _ in range(5) for p in search.ask(1000)]
    assert len(set(asked)) == 5000 and (WIDE.costs("macs", asked) <= limit).all()


def test_a_space_too_large_for_numbers() -> None:
    table = table_of([[0, 1, 2, 3]] * 1000)
    search = RandomSearch(constraints={"macs": 1200}, cost_table=table)
    search.setup(table.space)
    assert 0 < search.feasible_share < 1e-10
    assert (table.costs("macs", [p.tokens for p in search.ask(100)]) <= 1200).all()


def test_several_limits_hold_at_once() -> None:
    table = table_of([[i + j for j in range(4)] for i in range(20)], params=[[5, 1, 2, 7]] * 20)
    limits = {"macs": [215, 225], "params": [60, 65]}
    search = Evolution(constraints=limits, cost_table=table)
    search.setup(table.space)
    asked = []
    for _ in range(20):
        for proposal in search.ask(20):
            asked.append(proposal.tokens)
            search.tell(proposal.uid, float(sum(proposal.tokens)))
    for metric, (low, high) in limits.items():
        assert ((table.costs(metric, asked) >= low) & (table.costs(metric, asked) <= high)).all()
    sample = table.space.sample_tokens(np.random.default_rng(3), 10**5)
    macs, params = table.costs("macs", sample), table.costs("params", sample)
    share = ((macs >= 215) & (macs <= 225) & (params >= 60) & (params <= 65)).mean()
    assert not search.feasible_share_exact and search.feasible_share == pytest.approx(share, rel=0.4)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SEARCHES), st.integers(0, 2**32), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_every_proposal_is_feasible_and_new(cls: type[Search], seed: int, batches: list[int]) -> None:
    search = cls(constraints={"macs": [300, 600]}, cost_table=BINARY, seed=seed)  # type: ignore[call-arg]
    search.setup(BINARY.space)
    for n in batches:
        for proposal in search.ask(n):
            assert 300 <= BINARY.cost("macs", proposal.tokens) <= 600
            search.tell(proposal.uid, BINARY.cost("macs", proposal.tokens))
    assert len({trial.tokens for trial in search.trials.values()}) == search.counts.asked == sum(batches)


def test_rounding_of_inclusive_limits_is_forgiven() -> None:
    table = table_of([[0.1, 5.0], [0.2, 5.0]], metric="latency_ms", macs=[[0, 0], [0, 0]])
    search = RandomSearch(constraints={"latency_ms": 0.3}, cost_table=table)
    search.setup(table.space)
    assert [p.tokens for p in search.ask(9)] == [(0, 0)]


def test_suggestions_and_first_choices_keep_the_limits() -> None:
    search = RandomSearch(constraints={"macs": 3}, cost_table=BINARY)
    search.setup(BINARY.space)
    with pytest.raises(ConstraintError, match="macs <= 3"):
        search.suggest((0,) * 9 + (1,))
    first = BINARY.space.decode((0,) * 9 + (1,))
    with pytest.raises(ConstraintError, match="init_choices"):
        Annealing(init_choices=first, constraints={"macs": 3}, cost_table=BINARY).setup(BINARY.space)


@pytest.mark.parametrize("as_path", [True, False])
@pytest.mark.parametrize("cls", SEARCHES)
def test_a_killed_run_goes_on_as_the_unbroken_one(cls: Any, as_path: bool, tmp_path: Path) -> None:
    BINARY.save(tmp_path / "costs.json")
    table = str(tmp_path / "costs.json") if as_path else BINARY

    def go_on(run: Run, trials: int) -> list[tuple[int, ...]]:
        asked = []
        for _ in range(trials):
            for proposal in run.ask(3):
                asked.append(proposal.tokens)
                run.tell(proposal.uid, -abs(BINARY.cost("macs", proposal.tokens) - 321))
        return asked

    def make() -> Any:
        return cls(constraints={"macs": 400}, cost_table=table, seed=3)

    unbroken = go_on(Run.start(make(), BINARY.space), 40)
    first = Run.start(make(), BINARY.space, path=tmp_path / "journal.jsonl")
    asked = go_on(first, 20)
    first.close()
    resumed = Run.resume(make(), tmp_path / "journal.jsonl")
    assert asked + go_on(resumed, 20) == unbroken
    resumed.close()
    arguments = load(tmp_path / "journal.jsonl")[1]["search"]["arguments"]
    assert cls(**arguments).arguments == json.loads(json.dumps(arguments))  # a resume needs nothing else


def test_a_resume_with_other_limits_or_costs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Run.start(RandomSearch(0, {"macs": 400}, BINARY), BINARY.space, path=path).close()
    with pytest.raises(JournalError, match="constraints"):
        Run.resume(RandomSearch(0, {"macs": 500}, BINARY), path)
    other = table_of([[0, 2**i] for i in range(9)] + [[0, 511]])
    with pytest.raises(JournalError, match="another cost table"):
        Run.resume(RandomSearch(0, {"macs": 400}, other), path)


def test_a_changed_space_that_the_table_does_not_know_changes_nothing() -> None:
    run = Run.start(RandomSearch(0, {"macs": 400}, BINARY), BINARY.space)
    run.ask(5)
    with pytest.raises(CostError):
        run.change_space(space_of(2, 2))
    assert run.space == BINARY.space and len(run.ask(5)) == 5
