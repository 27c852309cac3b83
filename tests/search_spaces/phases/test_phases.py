"""Test phases: tables worked out by hand, epoch by epoch; draws within them; and errors."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Space
from search_spaces.domains import LayerDomain
from search_spaces.phases import Phase, PhaseError, progressive
from search_spaces.phases.phase import find_tasks
from search_spaces.phases.schedule import Region, Schedule, order_by_size
from search_spaces.phases.shrinking import MIT_PHASES
from tests.spaces import inputs, layer

SPACE = Space.from_json(
    {
        "stage1.0.conv.kernel_size": layer("3", "5", "7"),
        "stage1.0.expand_ratio": layer("6", "3", "4"),
        "stage1.depth": layer("2", "4", "3"),
        "op": layer("conv", "skip"),
    }
)
KERNEL, EXPAND, DEPTH, OP = SPACE.keys
K, E, D = ("7", "5", "3"), ("6", "4", "3"), ("4", "3", "2")


def offered(region: Region, space: Space = SPACE) -> tuple[tuple[str, ...], ...]:
    """Return the names on offer, in the region's order, without the ordinary key."""
    rows = zip(space.domains.values(), region.allowed, strict=True)
    return tuple(tuple(domain.choice(t)["_value"] for t in tokens) for domain, tokens in rows)[:3]


# By epoch: what is on offer of kernel size, expand ratio and depth. Worked out by hand from PaddleSlim's rule, with
# n_epochs [[1], [2, 4], [5, 6]]: inclusive ends, past the end the last.
BY_EPOCH = {
    ("kernel_size", "width", "depth"): [
        *[("kernel_size 0", K[:2], E[:1], D[:1])] * 2,
        ("width 0", K, E[:2], D[:1]),
        *[("width 1", K, E, D[:1])] * 2,
        ("depth 0", K, E, D[:2]),
        *[("depth 1", K, E, D)] * 3,
    ],
    ("kernel_size", "depth", "width"): [
        *[("kernel_size 0", K[:2], E[:1], D[:1])] * 2,
        ("depth 0", K, E[:1], D[:2]),
        *[("depth 1", K, E[:1], D)] * 2,
        ("width 0", K, E[:2], D),
        *[("width 1", K, E, D)] * 3,
    ],
}


@pytest.mark.parametrize("order", [None, *BY_EPOCH])
def test_the_table_of_paddleslim_epoch_by_epoch(order: tuple[str, ...] | None) -> None:
    schedule = Schedule(SPACE, progressive(SPACE, order, n_epochs=[[1], [2, 4], [5, 6]]))
    wanted = BY_EPOCH[order or ("kernel_size", "width", "depth")]
    for epoch, (name, *options) in enumerate(wanted):
        at = schedule.at(epoch)
        assert (schedule.phase(at).name, *offered(schedule.region(at))) == (name, *options), epoch
        assert schedule.allowed(at)[3] == range(2)


def test_the_table_of_mit_epoch_by_epoch() -> None:
    schedule = Schedule(SPACE, MIT_PHASES)
    wanted = [
        ("kernel", 120, K, E[:1], D[:1]),
        ("depth", 25, K, E[:1], D[:2]),
        ("depth", 120, K, E[:1], D),
        ("expand", 25, K, E[:2], D),
        ("expand", 120, K, E, D),
    ]
    expected = [(task, *options) for task, epochs, *options in wanted for _ in range(epochs)]
    found = [(schedule.phase(i).task, *offered(schedule.region(i))) for i in map(schedule.at, range(410))]
    assert found == expected
    assert schedule.at(10**6) == 4


@pytest.mark.parametrize("key", ["a.channel", "a.expand_ratio", "stem.w", "a.width", "channel"])
def test_width_is_expand_ratio_channel_and_what_mit_calls_w(key: str) -> None:
    space = Space.from_json({key: layer("16", "32", "24"), "b.kernel_size": layer("3", "5")})
    schedule = Schedule(space, progressive(space, ("width", "kernel_size"), budgets=2))
    assert [phase.name for phase in schedule.phases] == ["width 0", "width 1", "kernel_size 0"]
    assert schedule.allowed(0) == ((1, 2), (1,))
    assert schedule.allowed(2) == ((1, 2, 0), (1, 0))


def test_a_task_left_out_of_the_order_stays_at_its_largest() -> None:
    schedule = Schedule(SPACE, progressive(SPACE, ["kernel_size"], budgets=[[1, 1]]))
    assert [offered(region) for region in schedule.regions] == [(K[:2], E[:1], D[:1]), (K, E[:1], D[:1])]


def test_a_space_without_elastic_keys_has_no_phases() -> None:
    space = Space.from_json({"op": layer("a", "b")})
    assert progressive(space, budgets=3) == ()
    with pytest.raises(PhaseError, match="of 0 phases"):
        Schedule(space, ()).at(0)


def test_the_largest_and_the_smallest_of_a_phase() -> None:
    schedule = Schedule(SPACE, progressive(SPACE, n_epochs=[[1], [2, 4], [5, 6]]))
    assert [schedule.largest(i) for i in range(5)] == [(2, 0, 1, 0)] * 5
    assert [schedule.smallest(i) for i in range(5)] == [
        (1, 0, 1, 0),
        (0, 2, 1, 0),
        (0, 1, 1, 0),
        (0, 1, 2, 0),
        (0, 1, 0, 0),
    ]


@pytest.mark.parametrize(
    ("task", "phase", "options"),
    [
        ("kernel_size", None, (K, E[:1], D[:1])),
        ("kernel_size", 0, (K[:2], E[:1], D[:1])),
        ("width", 0, (K[:1], E[:2], D[:1])),
        ("expand_ratio", 1, (K[:1], E, D[:1])),
        (["kernel_size", "depth"], 0, (K, E[:1], D[:2])),
        (("depth", "width", "kernel_size"), None, (K, E, D)),
        (["kernel_size", "width", "depth"], 99, (K, E, D)),
    ],
)
def test_a_task_set_by_hand(task: Any, phase: int | None, options: Sequence[Any]) -> None:
    region = Schedule(SPACE, ()).of_task(task, phase)
    assert offered(region) == options
    assert region.allowed[3] == range(2)


@pytest.mark.parametrize(
    ("task", "phase", "said"),
    [
        ("kernel", None, "task 'kernel' is unknown, wanted one of kernel_size, width, expand_ratio, channel, depth"),
        ("channel", None, "task 'channel' has no key in this space"),
        (["width", "expand_ratio"], None, "expand_ratio is in more than one task"),
        ([], None, "wanted a list of tasks"),
        (3, None, "got 3, wanted a list of tasks"),
        ("depth", -1, "phase is -1, wanted a whole number from 0 up or None"),
        ("depth", True, "phase is True"),
    ],
)
def test_a_task_that_cannot_be_set(task: Any, phase: Any, said: str) -> None:
    with pytest.raises(PhaseError, match=said):
        Schedule(SPACE, ()).of_task(task, phase)


def test_sizes_are_numbers_not_texts() -> None:
    assert order_by_size(LayerDomain(("0.5", "10", "3/4", "9", "1e0"))) == (1, 3, 4, 2, 0)
    assert order_by_size(LayerDomain(("0.5", "all"))) is None
    assert order_by_size(LayerDomain(("nan", "1"))) is None
    assert order_by_size(LayerDomain(("1/0", "1"))) is None
    assert order_by_size(Space.from_json({"k": {"_type": "choice", "_value": [16, 32, True]}}).domains["k"]) is None
    assert order_by_size(Space.from_json({"k": {"_type": "choice", "_value": [16, 32.5]}}).domains["k"]) == (1, 0)
    assert order_by_size(Space.from_json({"k": {"_type": "randint", "_value": [2, 5]}}).domains["k"]) == (2, 1, 0)


def test_phases_as_data_by_patterns_and_names() -> None:
    phases = [
        {"name": "first", "open": {"stage1.*.kernel_size": ["7", "3"], "op": ["skip"]}, "budget": 2},
        {"name": "second", "open": {"kernel_*": "all", "width": 2, "op": "all"}, "budget": 1},
    ]
    schedule = Schedule(SPACE, phases)
    assert schedule.allowed(0) == ((2, 0), (0,), range(3), (1,))
    assert schedule.allowed(1) == ((2, 1, 0), (0, 2), range(3), (0, 1))
    assert schedule.largest(1) == (2, 0, 0, 0)
    assert schedule.smallest(1) == (0, 2, 0, 0)
    assert [phase.to_json() for phase in schedule.phases] == [{**phase, "task": phase["name"]} for phase in phases]


def test_a_first_pattern_that_fits_decides() -> None:
    schedule = Schedule(SPACE, [Phase("a", (("stage1.depth", 2), ("stage1.*", "all")))])
    assert offered(schedule.region(0)) == (K, E, D[:2])


@pytest.mark.parametrize(
    ("phases", "said"),
    [
        ("all", "phases are 'all', wanted a list"),
        ([3], r"\[0\] got 3, wanted an object"),
        ([{}], r"\[0\] name is None, wanted a text"),
        ([{"name": "a", "open": [], "budgets": 1}], r"\[0\] 'budgets' is unknown[^$]*open is \[\]"),
        ([{"name": "a", "open": {"op": 0}}], "'op' is 0, wanted a whole number from 1 up"),
        ([{"name": "a", "open": {"op": True}}], "'op' is True"),
        ([{"name": "a", "open": {"op": []}}], r"'op' is \[\]"),
        ([{"name": "a", "open": {"op": "most"}}], "'op' is 'most'"),
        ([{"name": "a", "open": {"op": ["x", "x"]}}], r"'op' is \['x', 'x'\]"),
        ([{"name": "a", "open": {}, "budget": 0}], "budget is 0"),
        ([{"name": "a", "open": {}, "task": 3}], "task is 3"),
        ([{"name": "a", "open": {"op": 1}}], "'op': its options are no numbers"),
        (
            [{"name": "a", "open": {}, "budget": 1}, {"name": "b", "open": {"op": "all"}}],
            "'op': its options are no num",
        ),
        ([{"name": "a", "open": {"depth": ["9"]}}], r"'stage1.depth' has not all of \['9'\]: \['2', '4', '3'\]"),
        ([{"name": "a", "open": {}}, {"name": "b", "open": {}}], "phase 'a' has no budget, and others come after it"),
        ([{"name": "a", "open": {}, "budget": 1}, {"name": "a", "open": {}}], "'a': the name stands twice"),
        ([{"name": "a", "open": {"deep": 2}}], "'deep' fits no key; there are 'stage1.0.conv.kernel_size'"),
        (
            [{"name": "a", "open": {"depth": 3}, "budget": 1}, {"name": "b", "open": {"depth": 2}}],
            "phase 'b' closes options of 'stage1.depth' that were open before it",
        ),
    ],
)
def test_phases_that_are_refused(phases: Any, said: str) -> None:
    with pytest.raises(PhaseError, match=said):
        Schedule(SPACE, phases)


def test_all_that_is_wrong_is_said_at_once() -> None:
    phases = [
        {"name": "a", "open": {"x": 1, "op": 2, "depth": "all"}},
        {"name": "a", "open": {"depth": 1, "width": ["5"]}, "budget": 3},
    ]
    with pytest.raises(PhaseError) as caught:
        Schedule(SPACE, phases)
    assert len(caught.value.problems) == 6
    with pytest.raises(PhaseError) as caught:
        progressive(SPACE, ("kernel", "depth", "channel"), n_epochs=[[3], [], [3, -1]])
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"n_epochs": [[1], [2, 3], []]}, r"n_epochs of 'depth' is \[\], wanted a list of whole numbers from 0 up"),
        ({"n_epochs": [[1], [2, 2], [3]]}, "each phase has to end after the one before it"),
        ({"n_epochs": [[1], [2, 3], [1]]}, "each phase has to end after the one before it"),
        ({"n_epochs": [[1], [2]]}, "wanted 3 lists, one for each of"),
        ({"n_epochs": 7}, "n_epochs is 7, wanted 3 lists"),
        ({"budgets": [[1], [0], [1]]}, r"budgets of 'width' is \[0\], wanted a list of whole numbers from 1 up"),
        ({"budgets": 0}, "budgets is 0"),
        ({"budgets": True}, "budgets is True"),
        ({}, "wanted either n_epochs or budgets"),
        ({"n_epochs": [[1], [2], [3]], "budgets": 1}, "wanted either n_epochs or budgets"),
        ({"elastic_order": "depth", "budgets": 1}, "got 'depth', wanted a list of tasks"),
        ({"elastic_order": [["depth"]], "budgets": 1}, r"task \['depth'\] is unknown"),
    ],
)
def test_schedules_that_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(PhaseError, match=said):
        progressive(SPACE, **arguments)


@pytest.mark.parametrize("opened", [{"depth": 2}, (("depth", 2, 3),), (("depth", 0),), ((3, 2),)])
def test_a_phase_checks_itself(opened: Any) -> None:
    with pytest.raises(PhaseError, match="phase 'a' is malformed"):
        Phase("a", opened)


@pytest.mark.parametrize("epoch", [-1, 1.5, True, None])
def test_an_epoch_is_a_whole_number(epoch: Any) -> None:
    with pytest.raises(PhaseError, match="wanted a whole number from 0 up"):
        Schedule(SPACE, MIT_PHASES).at(epoch)


_numbers = st.lists(st.integers(1, 9).map(str), min_size=1, max_size=4, unique=True).map(lambda v: layer(*v))
_ends = st.sampled_from(["kernel_size", "expand_ratio", "channel", "depth"])
_spaces = st.dictionaries(st.tuples(st.sampled_from("abc"), _ends).map(".".join), _numbers, min_size=1).map(
    lambda entries: Space.from_json({**entries, "op": layer("x", "y"), "in": inputs(None, *"pqrs")})
)


@given(_spaces, st.permutations(["kernel_size", "width", "depth"]), st.integers(0, 2**32 - 1))
def test_every_draw_lies_in_its_phase_and_phases_only_widen(space: Space, order: list[str], seed: int) -> None:
    order = [task for task in order if find_tasks(space)[task]]
    schedule = Schedule(space, progressive(space, order, budgets=2))
    rng = np.random.default_rng(seed)
    for i, region in enumerate(schedule.regions):
        drawn = [schedule.draw(rng, i), *map(tuple, region.draws(rng, 20).tolist())]
        for tokens in [*drawn, schedule.largest(i), schedule.smallest(i)]:
            assert region.holds(tokens)
            space.decode(tokens)
    for before, after in itertools.pairwise(schedule.regions):
        assert all(set(a) <= set(b) for a, b in zip(before.allowed, after.allowed, strict=True))
    assert schedule.regions[-1].size == space.size
    plain = json.loads(json.dumps([phase.to_json() for phase in schedule.phases]))
    assert Schedule(space, plain).phases == schedule.phases
    assert Schedule(space, plain).regions == schedule.regions


def test_draws_are_uniform_within_a_phase() -> None:
    region = Schedule(SPACE, progressive(SPACE, budgets=1)).region(3)
    rows = region.draws(np.random.default_rng(0), 40_000)
    seen, counts = np.unique(rows, axis=0, return_counts=True)
    assert len(seen) == region.size == 3 * 3 * 1 * 2
    assert abs(counts - 40_000 / 18).max() < 5 * (40_000 / 18) ** 0.5


def test_a_key_too_large_to_list_is_no_matter() -> None:
    space = Space.from_json({"depth": layer("1", "2"), "in": inputs(None, *map(str, range(60)))})
    region = Schedule(space, progressive(space, budgets=1)).region(0)
    assert region.size == 2**61
    assert region.holds(region.draw(np.random.default_rng(0)))
    assert Schedule(space, [Phase("a", (("*", "all"),))]).region(0).size == 2**61
    with pytest.raises(PhaseError, match="'in': its options are no numbers"):
        Schedule(space, [Phase("a", (("in", ("1",)),))])
