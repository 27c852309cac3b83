"""Fronts and crowding against their definitions; and the searches that take several objectives."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas_tuners import NSGA2Tuner, Run, run_search
from nas_tuners.runs.run import load
from nas_tuners.search import NSGA2, Bayesian, RandomSearch, Search
from nas_tuners.search.model.fronts import crowd, find_front, rank_fronts
from nas_tuners.search.model.hypervolume import hypervolume
from nas_tuners.search.objectives import Objectives
from search_spaces import Space
from search_spaces.cost import CostTable
from tests.spaces import SPACES

WIDE = Space.from_json(SPACES["20 x 4"])
SEVERAL = [NSGA2, Bayesian]
BOTH = {"default": "maximize", "macs": "minimize"}
GAIN = np.random.default_rng(5).uniform(0, 1, size=(20, 4)).cumsum(axis=1)
TABLE = CostTable(
    WIDE, {"macs": 1}, {"macs": {key: [1, 3, 4, 8] if at % 2 else [0, 2, 5, 6] for at, key in enumerate(WIDE.keys)}}
)
POINTS = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(2, 3)), elements=st.integers(0, 4).map(float))


def gain(tokens: Any) -> float:
    return float(GAIN[np.arange(20), list(tokens)].sum())


DRAWN = WIDE.sample_tokens(np.random.default_rng(0), 2000)
ORDINARY = np.array([np.median([gain(row) for row in DRAWN]), -np.median(TABLE.costs("macs", DRAWN))])


def beats(one: Any, other: Any) -> bool:
    return bool((one >= other).all() and (one > other).any())


@given(POINTS)
def test_a_front_is_beaten_by_those_before_it_alone(values: Any) -> None:
    ranks = rank_fronts(values)
    assert find_front(values).tolist() == np.flatnonzero(ranks == 0).tolist()
    for i, j in itertools.permutations(range(len(values)), 2):
        assert not (beats(values[j], values[i]) and ranks[j] >= ranks[i])
    for i, rank in enumerate(ranks):
        assert rank == 0 or any(ranks[j] == rank - 1 and beats(values[j], values[i]) for j in range(len(values)))


@given(POINTS)
def test_a_hypervolume_is_the_number_of_cells_that_are_covered(values: Any) -> None:
    """Of whole numbers from 0 to 4, above a reference of 0."""
    cells = np.array(list(itertools.product(range(4), repeat=values.shape[1]))) + 0.5
    covered = (cells[:, None, :] < values[None]).all(axis=2).any(axis=1).sum()
    assert hypervolume(values, np.zeros(values.shape[1])) == covered


@given(POINTS)
def test_the_ends_of_a_front_are_never_crowded(values: Any) -> None:
    ranks = rank_fronts(values)
    apart = crowd(values, ranks)
    assert (apart >= 0).all()
    for rank in set(ranks.tolist()):
        for column in values[ranks == rank].T:
            assert math.inf in apart[ranks == rank][column == column.max()]


def covered_by(search: Any, trials: int) -> float:
    """The hypervolume beyond an ordinary architecture after so many trials, with costs from the table."""
    search.setup(WIDE)
    for _ in range(trials):
        (proposal,) = search.ask()
        search.tell(proposal.uid, gain(proposal.tokens))
    table = TABLE.arranged(WIDE)
    values = [(trial.score, -table.cost("macs", trial.tokens)) for trial in search.trials.values()]
    return hypervolume(np.array(values), ORDINARY)


@pytest.mark.slow
def test_it_covers_more_than_random_search_does() -> None:
    ours = np.mean([covered_by(NSGA2(BOTH, seed=seed, cost_table=TABLE), 150) for seed in range(4)])
    random = np.mean([covered_by(RandomSearch(seed=seed), 150) for seed in range(4)])
    assert ours > 1.5 * random
    assert covered_by(Bayesian(objectives=BOTH, seed=0, cost_table=TABLE), 50) > ours  # in a third of the trials


@pytest.mark.parametrize("make", SEVERAL)
def test_its_front_holds_all_that_nothing_beats_and_nothing_else(make: Any) -> None:
    search = make(objectives=BOTH, seed=1, cost_table=TABLE)
    covered_by(search, 40)
    table = TABLE.arranged(WIDE)
    values = {t.uid: np.array([t.score, -table.cost("macs", t.tokens)]) for t in search.trials.values()}
    unbeaten = {uid for uid, value in values.items() if not any(beats(other, value) for other in values.values())}
    assert {best.uid for best in search.front} == unbeaten
    assert search.best is not None and search.front[0].uid == search.best.uid


def test_what_a_trial_reports_comes_before_the_table() -> None:
    objectives = Objectives(BOTH, TABLE)
    assert objectives.read({"default": 0.5, "macs": 7}, (0,) * 20) == (0.5, 7.0)
    assert objectives.read({"default": 0.5}, (0,) * 20) == (0.5, TABLE.cost("macs", (0,) * 20))


@pytest.mark.parametrize("make", SEVERAL)
@pytest.mark.parametrize("macs", [None, "many", math.nan])
def test_a_result_without_one_of_the_objectives_is_a_failure(make: Any, tmp_path: Path, macs: Any) -> None:
    run = Run.start(search := make(objectives=BOTH, seed=1), WIDE, path=tmp_path / "journal.jsonl")
    (proposal,) = run.ask()
    run.tell(proposal.uid, {"default": 0.5, "macs": macs})
    assert search.counts.failed == 1
    assert "the objective 'macs' is" in str(search.trials[proposal.uid].reason)
    assert load(tmp_path / "journal.jsonl")[0].search.best is None  # nor for who only looks at it
    (proposal,) = run.ask()
    assert run.tell(proposal.uid, {"default": 0.5, "macs": 3})
    assert [best.uid for best in search.front] == [proposal.uid]
    run.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"objectives": {"default": "maximize"}}, "wanted two or more"),
        ({"objectives": ["default"]}, "wanted two or more"),
        ({"objectives": {"default": "up", "macs": "minimize"}}, r"objectives\['default'\] is 'up'"),
        ({"population_size": 1}, "population_size is 1"),
        ({"crossover_prob": 2}, "crossover_prob is 2"),
        ({"mutate_prob": -1}, "mutate_prob is -1"),
    ],
)
@pytest.mark.parametrize("make", [NSGA2, NSGA2Tuner])
def test_bad_arguments_are_refused_at_once(make: Any, arguments: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**arguments)


@pytest.mark.parametrize("make", SEVERAL)
def test_the_score_has_one_mode(make: Any) -> None:
    search = make(objectives=BOTH, seed=0)
    with pytest.raises(ValueError, match="but optimize_mode is 'minimize'"):
        search.setup(WIDE, "minimize")


@pytest.mark.parametrize("kind", [NSGA2, pytest.param(Bayesian, marks=pytest.mark.slow)])
def test_a_run_that_was_resumed_goes_on_as_the_unbroken_one(kind: Any, tmp_path: Path) -> None:
    def evaluate(choices: Any) -> dict[str, float]:
        tokens = WIDE.encode(choices)
        return {"default": gain(tokens), "latency": float(sum(tokens) % 11)}

    def make() -> Search:
        first = {"population_size": 8} if kind is NSGA2 else {"initial": 8}
        made: Search = kind(objectives={"default": "maximize", "latency": "minimize"}, seed=4, **first)
        return made

    unbroken = Run.start(make(), WIDE)
    run_search(unbroken, evaluate, 40)
    run = Run.start(make(), WIDE, path=tmp_path / "journal.jsonl")
    for trials in (5, 17, 40):
        run_search(run, evaluate, trials)
        run.close()
        run = Run.resume(kind(**run.search.arguments), tmp_path / "journal.jsonl")
    run.close()
    asked = [[trial.tokens for trial in one.search.trials.values()] for one in (run, unbroken)]
    assert asked[0] == asked[1]
