"""Constraints on costs that several keys decide together: counted, drawn uniformly, found where few keep them."""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import Run
from nas_tuners.search import (
    Annealing,
    ConstraintError,
    Evolution,
    RandomSearch,
    Search,
)
from nas_tuners.search.feasible import splitting
from nas_tuners.search.feasible.constraints import Caps, Feasible
from nas_tuners.search.feasible.halves import Halves
from nas_tuners.search.feasible.splitting import Splitting
from nas_tuners.search.feasible.trellis import Trellis, steps_of
from nas_tuners.testing.driving import history, pickled
from search_spaces import Space
from search_spaces.cost import CostTable
from search_spaces.cost.limits import Limit, limits_of
from tests.nas_tuners.search.feasible.test_constraints import BINARY, WIDE
from tests.nas_tuners.search.test_conformance import digest

Terms = list[tuple[tuple[int, ...], np.ndarray[Any, Any]]]
SEARCHES = [RandomSearch, Annealing, Evolution]


def table_of(radices: list[int], terms: Terms, fixed: float = 0, **more: Terms) -> CostTable:
    space = Space.from_json({f"k{i}": {"_type": "randint", "_value": [0, radix]} for i, radix in enumerate(radices)})
    joint = {
        metric: [(tuple(space.keys[key] for key in keys), costs) for keys, costs in given_]
        for metric, given_ in {"macs": terms, **more}.items()
    }
    return CostTable(space, dict.fromkeys(joint, 0) | {"macs": fixed}, {}, joint=joint)


def chain(keys: int, radix: int = 5, seed: int = 0, top: int = 10**7) -> CostTable:
    rng = np.random.default_rng(seed)
    return table_of([radix] * keys, [((i, i + 1), rng.integers(1, top, (radix, radix))) for i in range(keys - 1)], 1000)


def dense(seed: int = 0) -> CostTable:
    """Twenty terms of four keys, any of 25: no order of the keys leaves few states."""
    rng = np.random.default_rng(seed)
    quads = [tuple(rng.choice(25, 4, replace=False).tolist()) for _ in range(20)]
    return table_of([5] * 25, [(keys, rng.integers(0, 10**6, (5,) * 4)) for keys in quads])


def every(table: CostTable) -> np.ndarray[Any, Any]:
    return np.array(list(itertools.product(*map(range, table.space.radices))))


quarters = st.integers(0, 200).map(lambda i: i / 4)  # limits: nearer than rounding to a cost, or far from it


@st.composite
def tables(draw: Any) -> CostTable:
    radices = draw(st.lists(st.integers(1, 4), min_size=2, max_size=6))
    numbers = draw(st.sampled_from([st.integers(0, 30), st.integers(0, 80).map(lambda i: 0.37 * i)]))
    chosen = st.lists(st.integers(0, len(radices) - 1), min_size=2, max_size=4, unique=True)
    terms = []
    for keys in draw(st.lists(chosen, min_size=1, max_size=5)):
        shape = [radices[key] for key in keys]
        cells = draw(st.lists(numbers, min_size=math.prod(shape), max_size=math.prod(shape)))
        terms.append((tuple(keys), np.array(cells, dtype=float).reshape(shape)))
    return table_of(radices, terms)


@settings(max_examples=60, deadline=None)
@given(tables(), quarters, quarters)
def test_a_trellis_finds_the_feasible_and_no_other(table: CostTable, low: float, width: float) -> None:
    rows = every(table)
    costs, high = table.costs("macs", rows), low + width
    wanted = set(map(tuple, rows[(costs >= low) & (costs <= high)].tolist()))
    low, high = (low, high) if table.whole("macs") else (low - 1e-9, high + 1e-9)
    steps = steps_of(table.space.radices, table.terms("macs"))
    assert steps is not None
    made = Trellis(steps, Limit("macs", low, high), table.whole("macs"))
    if not made.share > 0:
        assert not wanted
        distance = np.maximum(np.maximum(low - costs, costs - high), 0)
        nearest = made.nearest()
        assert np.abs(costs - nearest).min() <= 1e-9  # some architecture costs that
        if made.exact:
            assert max(low - nearest, nearest - high) == pytest.approx(distance.min(), abs=1e-9)
        return
    found = set(map(tuple, made.every().tolist()))
    assert wanted <= found and set(map(tuple, made.draw(np.random.default_rng(0), 50).tolist())) <= found
    if made.exact:
        assert found == wanted and made.count == len(wanted)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(tables(), quarters, quarters, st.booleans())
def test_what_is_feasible_is_counted_or_the_nearest_named(
    table: CostTable, low: float, width: float, listed: bool
) -> None:
    rows, high = every(table), low + width
    costs = table.costs("macs", rows)
    wanted = rows[(costs >= low - 1e-9) & (costs <= high + 1e-9)]
    try:
        feasible = Feasible(table.space, table, limits_of({"macs": [low, high]}), Caps() if listed else Caps(listed=0))
    except ConstraintError as error:
        named = float(str(error).rstrip(".").split()[-1])
        distance = max(low - named, named - high)
        assert not len(wanted) and np.abs(costs - named).min() <= 1e-6
        if listed or table.whole("macs"):
            assert distance == pytest.approx(np.maximum(low - costs, costs - high).min(), abs=1e-6)
        return
    if feasible.exact:
        assert feasible.count == len(wanted) and feasible.share == pytest.approx(len(wanted) / len(rows))
    drawn = feasible.sample(np.random.default_rng(1), 30)
    assert feasible.mask(drawn).all() and set(map(tuple, drawn.tolist())) <= set(map(tuple, wanted.tolist()))


@pytest.mark.parametrize("how", ["exact", "coarse", "splitting"])
def test_draws_are_uniform_over_the_feasible(how: str) -> None:
    rng = np.random.default_rng(2)
    scale = 1.0 if how != "coarse" else 0.37
    pairs: Terms = [((i, i + 1), rng.integers(0, 9, (3, 3)) * scale) for i in range(4)]
    table = table_of([3] * 5, pairs)
    rows = every(table)
    limit = float(np.quantile(table.costs("macs", rows), 0.15))
    wanted = {tuple(row) for row in rows[table.costs("macs", rows) <= limit + 1e-9].tolist()}
    caps = {
        "exact": Caps(listed=0),
        "coarse": Caps(listed=0, bins=64),
        "splitting": Caps(listed=0, moves=0, accepted=1.0),
    }[how]
    feasible = Feasible(table.space, table, limits_of({"macs": limit}), caps)
    n = 200 * len(wanted)
    seen = Counter(map(tuple, feasible.sample(np.random.default_rng(5), n).tolist()))
    chi_square = sum((seen[tokens] - 200) ** 2 / 200 for tokens in wanted)
    freedom = len(wanted) - 1
    assert set(seen) == wanted and feasible.exact == (how == "exact")
    assert chi_square < (freedom + 4 * math.sqrt(2 * freedom)) * (2 if how == "splitting" else 1)
    assert feasible.share == pytest.approx(len(wanted) / 3**5, rel=1e-12 if how == "exact" else 0.2)


@pytest.mark.parametrize("cls", SEARCHES)
def test_a_small_space_is_exhausted(cls: type[Search]) -> None:
    table = chain(5, 3, top=50)
    costs = table.costs("macs", every(table))
    limit = float(np.median(costs))
    search = cls(constraints={"macs": limit}, cost_table=table)  # type: ignore[call-arg]
    search.setup(table.space)
    count = int((costs <= limit).sum())
    assert search.feasible_share_exact and search.feasible_share == count / 3**5
    asked = [p.tokens for p in search.ask(1000)]
    assert len(asked) == len(set(asked)) == count and search.exhausted


@pytest.mark.parametrize(("keys", "share"), [(12, 8e-6), (14, 1e-6)])
@pytest.mark.parametrize("cls", SEARCHES)
def test_a_thousand_in_a_chain_where_hardly_any_are_feasible(cls: type[Search], keys: int, share: float) -> None:
    table = chain(keys)
    limit = limit_of(table, share)
    search = cls(constraints={"macs": limit}, cost_table=table)  # type: ignore[call-arg]
    search.setup(table.space)
    asked = [p.tokens for p in search.ask(1000)]
    assert search.feasible_share == pytest.approx(share, rel=0.1)
    assert len(set(asked)) == 1000 and (table.costs("macs", asked) <= limit).all()


def limit_of(table: CostTable, share: float) -> float:
    """The limit that leaves a share of a chain: by bisection on the sums of its two halves."""
    middle = len(table.space) // 2
    halves: list[list[np.ndarray[Any, Any]]] = []
    for keys in (range(middle + 1), range(middle, len(table.space))):
        terms = [term for term in table.terms("macs") if set(term[0]) <= set(keys)]
        rows = np.array(list(itertools.product(*[range(5)] * len(keys))))
        sums = sum(costs[tuple(rows[:, key - keys[0]] for key in at)] for at, costs in terms)
        shared = rows[:, -1] if keys[0] == 0 else rows[:, 0]
        halves.append([np.sort(sums[shared == token]) for token in range(5)])
    low, high = table.bounds("macs").low, table.bounds("macs").high
    for _ in range(40):
        limit = (low + high) / 2
        below = sum(int(np.searchsorted(b, limit - 1000 - a, "right").sum()) for a, b in zip(*halves, strict=True))
        low, high = (limit, high) if below < share * table.space.size else (low, limit)
    return high


@pytest.mark.parametrize("spread", [-2.3, -4.75])
def test_where_too_many_keys_meet_the_few_are_found(spread: float) -> None:
    table = dense()
    assert steps_of(table.space.radices, table.terms("macs")) is None
    sums = table.costs("macs", table.space.sample_tokens(np.random.default_rng(1), 2**16))
    limit = float(sums.mean() + spread * sums.std())
    search = Evolution(constraints={"macs": limit}, cost_table=table)
    search.setup(table.space)
    asked = [p.tokens for _ in range(3) for p in search.ask(1000)]
    assert len(set(asked)) == 3000 and (table.costs("macs", asked) <= limit).all()
    assert not search.feasible_share_exact and "estimated" in str(search._remaining.feasible)
    if spread > -3:
        assert search.feasible_share == pytest.approx((sums <= limit).mean(), rel=0.4)
    else:
        assert 1e-8 < search.feasible_share < 1e-5


def test_splitting_estimates_a_share_that_can_be_counted() -> None:
    table, share = chain(12), 1e-5
    limit = limit_of(table, share)
    found = Splitting(table.space, lambda rows: np.maximum(table.costs("macs", rows) - limit, 0))
    assert found.share == pytest.approx(share, rel=0.5)
    drawn = found.draw(np.random.default_rng(0), 2000)
    assert (table.costs("macs", drawn) <= limit).all() and len(np.unique(drawn, axis=0)) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("keys", [4, 25, 400])
def test_what_is_nowhere_is_given_up_after_a_bounded_number_of_looks(keys: int) -> None:
    looked: list[int] = []

    def excess(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        looked.append(rows.size)
        return 1 + rows.sum(1) + rows @ np.linspace(0, 1e-3, keys)  # ever a step further down, and never there

    found = Splitting(Space.from_json({f"k{i}": {"_type": "randint", "_value": [0, 9]} for i in range(keys)}), excess)
    assert found.share == 0 and len(found.every()) == 0
    assert sum(looked) <= 1.1 * splitting._MOST_WORK  # a few seconds: tests.benchmarks.search_speed measures them


@pytest.mark.slow
@pytest.mark.parametrize("make", [chain, dense])
def test_an_impossible_limit_names_the_nearest_cost(make: Any) -> None:
    table = chain(20) if make is chain else dense()
    bounds = table.bounds("macs")
    said = f"nearest reachable macs is {bounds.low:.10g}" if make is chain else "none was found .* nearest has macs"
    with pytest.raises(ConstraintError, match=said):
        RandomSearch(constraints={"macs": bounds.low - 1}, cost_table=table).setup(table.space)
    with pytest.raises(ConstraintError, match=r"nearest (reachable macs is|has macs)"):
        RandomSearch(constraints={"macs": [bounds.high + 1, None]}, cost_table=table).setup(table.space)


def test_a_gap_between_reachable_costs_is_named() -> None:
    table = table_of([2] * 24, [((i, i + 1), np.array([[0, 0], [0, 100]])) for i in range(23)], fixed=7)
    with pytest.raises(ConstraintError, match="nearest reachable macs is 1207"):
        RandomSearch(constraints={"macs": [1210, 1300]}, cost_table=table).setup(table.space)


@pytest.mark.slow
def test_several_limits_and_a_table_that_is_joint_in_one_of_them() -> None:
    table = chain(16, 4, top=100)
    options = {"params": {key: [5, 1, 2, 7] for key in table.space.keys}}
    both = CostTable(table.space, {**table.fixed, "params": 0}, options, joint=table.joint)
    rows = table.space.sample_tokens(np.random.default_rng(0), 10**5)
    sums = both.costs("macs", rows)
    for part, params, rel, drawn_by in ((0.1, 55, 0.2, Trellis), (0.1, 34, 0.4, Halves), (0.004, 36, 0.7, Splitting)):
        macs = float(np.quantile(sums, part))
        search = Evolution(constraints={"macs": macs, "params": params}, cost_table=both)
        search.setup(table.space)
        asked = [p.tokens for p in search.ask(500)]
        assert isinstance(search._remaining.feasible._sampler, drawn_by)
        assert len(set(asked)) == 500
        assert (both.costs("macs", asked) <= macs).all() and (both.costs("params", asked) <= params).all()
        wide = table.space.sample_tokens(np.random.default_rng(3), 2**19)
        share = ((both.costs("macs", wide) <= macs) & (both.costs("params", wide) <= params)).mean()
        assert search.feasible_share == pytest.approx(share, rel=rel)


GOLDEN = {
    ("listed", "RandomSearch"): "7cc76963ae9b",
    ("listed", "Annealing"): "b0a3b45c7f56",
    ("listed", "Evolution"): "0aedf65fbaf8",
    ("halves", "RandomSearch"): "217f8b00e22d",
    ("halves", "Annealing"): "48d542aa6a19",
    ("halves", "Evolution"): "02e038cb822d",
    ("trellis", "RandomSearch"): "88d69c920389",
    ("trellis", "Annealing"): "9b35857247a5",
    ("trellis", "Evolution"): "8f9a46761deb",
    ("splitting", "RandomSearch"): "3dfa558e0d8a",
    ("splitting", "Annealing"): "7f42664256db",
    ("splitting", "Evolution"): "3bdc99858de9",
}


@pytest.mark.parametrize("cls", SEARCHES)
@pytest.mark.parametrize("how", ["listed", "halves", "trellis", "splitting"])
def test_a_seed_gives_the_sequence_that_it_always_gave_and_so_does_a_copy(how: str, cls: Any) -> None:
    """Whatever draws, a journal of an earlier version goes on as it would have then."""
    table, limit = {
        "listed": lambda: (BINARY, 400),
        "halves": lambda: (WIDE, 58_630_000),
        "trellis": lambda: (chain(20), 60_000_000),
        "splitting": lambda: (dense(), 5_000_000),
    }[how]()
    sanas = {"init_temperature": None} if cls is Annealing else {}  # the default then
    search = cls(seed=3, constraints={"macs": limit}, cost_table=table, **sanas)
    search.setup(table.space)
    assert digest(history(search, 60)) == GOLDEN[how, cls.__name__]
    copied, pickled_ = copy.deepcopy(search), pickled(search)
    assert history(copied, 20) == history(pickled_, 20) == history(search, 20)


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("cls", SEARCHES)
@pytest.mark.parametrize("make", [chain, dense])
def test_a_killed_run_goes_on_as_the_unbroken_one(cls: Any, make: Any, tmp_path: Path) -> None:
    table = chain(14) if make is chain else dense()
    sums = table.costs("macs", table.space.sample_tokens(np.random.default_rng(1), 2**14))
    limit = float(sums.mean() - 3 * sums.std())
    table.save(tmp_path / "costs.json")

    def search(source: Any = tmp_path / "costs.json") -> Any:
        return cls(constraints={"macs": limit}, cost_table=source, seed=3)

    def go_on(run: Run, trials: int) -> list[tuple[int, ...]]:
        asked = []
        for _ in range(trials):
            for proposal in run.ask(3):
                asked.append(proposal.tokens)
                run.tell(proposal.uid, float(sum(proposal.tokens)))
        return asked

    unbroken = go_on(Run.start(search(table), table.space), 20)
    first = Run.start(search(), table.space, path=tmp_path / "journal.jsonl")
    asked = go_on(first, 10)
    first.close()
    resumed = Run.resume(search(), tmp_path / "journal.jsonl")
    assert asked + go_on(resumed, 10) == unbroken
    resumed.close()
    with pytest.raises(JournalError, match="another cost table"):
        Run.resume(search(chain(14, seed=9) if make is chain else dense(9)), tmp_path / "journal.jsonl")
