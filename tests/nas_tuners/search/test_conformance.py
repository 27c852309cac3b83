"""Every search of the table, and some variants of them, keeps the promises of a search, in every space."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_tuners.runs.run import Run
from nas_tuners.search import Annealing, Bayesian, Evolution, Search
from nas_tuners.search.algorithms import ALGORITHMS
from nas_tuners.search.earlier import Earlier
from search_spaces import Space
from tests.spaces import SPACES

EARLIER = [
    Earlier(space, rows, [float(sum(row)) for row in rows])
    for name in ("20 x 4", *list(SPACES)[:2])
    for space in [Space.from_json(SPACES[name])]
    for rows in [list(map(tuple, space.sample_tokens(np.random.default_rng(0), 20).tolist()))]
]
SEARCHES: dict[str, Callable[..., Search]] = {
    **{name: algorithm.search for name, algorithm in ALGORITHMS.items()},
    "evolution in generations": lambda seed=0: Evolution(
        mode="generation", candidate_pool_size=10, candidate_top_k=4, num_mutation=5, num_crossover=5, seed=seed
    ),
    "evolution with aging": lambda seed=0: Evolution(regularized=True, seed=seed),
    "bayesian after others": lambda seed=0: Bayesian(initial=4, warm_start=EARLIER, seed=seed),
    "annealing as SANAS": lambda seed=0: Annealing(None, seed=seed),
    "annealing, cold": lambda seed=0: Annealing(init_temperature=1e-9, seed=seed),
}


MODELS = ("bayesian", "bayesian after others")
"""They think longer."""


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if name in MODELS else ()) for name in SEARCHES])
def make(request: pytest.FixtureRequest) -> Callable[..., Search]:
    return SEARCHES[request.param]


@pytest.fixture(params=SPACES, ids=str)
def space(request: pytest.FixtureRequest) -> Space:
    return Space.from_json(SPACES[request.param])


@pytest.fixture
def wide() -> Space:
    return Space.from_json(SPACES["20 x 4"])


def ready(search: Search, space: Space, optimize_mode: str = "maximize") -> Search:
    search.setup(space, optimize_mode)
    return search


def pickled(search: Search) -> Search:
    copied: Search = pickle.loads(pickle.dumps(search))  # noqa: S301 - our own
    return copied


def score(tokens: tuple[int, ...]) -> float:
    return float(sum((i + 1) * token for i, token in enumerate(tokens)) % 17)


def history(search: Search, trials: int) -> list[tuple[int, ...]]:
    """Ask and tell in turn, with a NaN and a failure now and then."""
    for i in range(trials):
        for proposal in search.ask():
            if i % 7 == 3:
                search.fail(proposal.uid, "out of memory")
            else:
                search.tell(proposal.uid, float("nan") if i % 7 == 5 else score(proposal.tokens))
    return [trial.tokens for trial in search.trials.values()]


def test_proposals_are_on_offer_and_never_repeat(make: Callable[..., Search], space: Space) -> None:
    search = ready(make(), space)
    seen = history(search, 60)
    assert len(set(seen)) == len(seen) == min(60, space.size)
    for proposal in [*search.ask(), *search.pending]:
        choices = json.loads(json.dumps(proposal.choices))
        assert space.encode(choices) == proposal.tokens


def test_a_space_is_exhausted_once_and_exactly(make: Callable[..., Search], space: Space) -> None:
    if space.size > 10_000:
        pytest.skip("too large to exhaust here")
    search = ready(make(), space)
    while proposals := search.ask(3):
        assert not search.exhausted or sum(len(p.tokens) > 0 for p in proposals)
        for proposal in proposals:
            search.tell(proposal.uid, score(proposal.tokens))
    assert search.exhausted
    assert search.counts.told == len({trial.tokens for trial in search.trials.values()}) == space.size
    assert search.ask() == search.ask(5) == []
    assert search.best is not None
    assert search.best.score == max(score(trial.tokens) for trial in search.trials.values())


def test_300_asks_before_any_tell(make: Callable[..., Search], wide: Space) -> None:
    search = ready(make(), wide)
    first = [proposal for _ in range(300) for proposal in search.ask()]
    assert len({proposal.tokens for proposal in first}) == 300
    for proposal in reversed(first):
        search.tell(proposal.uid, score(proposal.tokens))
    assert (search.counts.asked, search.counts.told, search.counts.pending) == (300, 300, 0)


def test_asking_in_one_batch_gives_as_many(make: Callable[..., Search], wide: Space) -> None:
    search = ready(make(), wide)
    for size in (1, 7, 250):
        batch = search.ask(size)
        assert len({proposal.tokens for proposal in batch}) == size
        for proposal in batch:
            search.tell(proposal.uid, score(proposal.tokens))


def test_same_seed_same_run_and_another_seed_another(make: Callable[..., Search], wide: Space) -> None:
    assert history(ready(make(seed=5), wide), 80) == history(ready(make(seed=5), wide), 80)
    assert history(ready(make(seed=5), wide), 80) != history(ready(make(seed=6), wide), 80)


def test_the_global_generators_are_neither_read_nor_touched(make: Callable[..., Search], wide: Space) -> None:
    undisturbed = history(ready(make(seed=5), wide), 40)
    search = ready(make(seed=5), wide)
    history(search, 20)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index,union-attr] # noqa: NPY002
    for i in range(20, 40):
        for proposal in search.ask():
            if i % 7 == 3:
                search.fail(proposal.uid)
            else:
                search.tell(proposal.uid, float("nan") if i % 7 == 5 else score(proposal.tokens))
    assert [trial.tokens for trial in search.trials.values()] == undisturbed
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index,union-attr] # noqa: NPY002


GOLDEN = {
    "random": "ee5d851280ae",
    "annealing": "4547e9f1ac84",
    "annealing as SANAS": "1dd09edb4026",
    "evolution": "c7c2b568f623",
    "shrinking": "c7c2b568f623",  # nothing is elastic there: it is evolution from the start
    "evolution in generations": "138609dc6f32",
    "evolution with aging": "c7dc7216ac20",
    "annealing, cold": "dc86911bcd7d",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_seed_gives_the_sequence_that_it_always_gave(name: str, wide: Space) -> None:
    """A journal of an earlier version goes on as it would have then."""
    assert digest(history(ready(SEARCHES[name](seed=3), wide), 80)) == GOLDEN[name]


def digest(tokens: list[tuple[int, ...]]) -> str:
    return hashlib.sha256(json.dumps([list(map(int, row)) for row in tokens]).encode()).hexdigest()[:12]


@pytest.mark.parametrize("how", [copy.deepcopy, pickled])
def test_a_copy_goes_on_as_its_original(make: Callable[..., Search], wide: Space, how: Any) -> None:
    fresh = ready(how(make(seed=2)), wide)
    search = ready(make(seed=2), wide)
    assert history(fresh, 30) == history(search, 30)
    copied = how(search)
    assert (copied.arguments, copied.counts, copied.best) == (search.arguments, search.counts, search.best)
    assert history(copied, 30) == history(search, 30)


@pytest.fixture(scope="module")
def histories_elsewhere() -> dict[str, list[list[int]]]:
    """The history of each search in one fresh process."""
    code = (
        "from tests.nas_tuners.search.test_conformance import *\n"
        "space = Space.from_json(SPACES['20 x 4'])\n"
        "print(json.dumps({name: history(ready(make(seed=3), space), 50) for name, make in SEARCHES.items()}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    histories: dict[str, list[list[int]]] = json.loads(done.stdout)
    return histories


@pytest.mark.parametrize("name", SEARCHES)
def test_same_run_in_a_fresh_process(name: str, wide: Space, histories_elsewhere: dict[str, list[list[int]]]) -> None:
    there = [tuple(tokens) for tokens in histories_elsewhere[name]]
    assert there == history(ready(SEARCHES[name](seed=3), wide), 50)


def test_failures_and_nonsense_never_win(make: Callable[..., Search], wide: Space) -> None:
    for mode in ("maximize", "minimize"):
        search = ready(make(), wide, mode)
        for value in (float("nan"), float("inf"), float("-inf"), 3.0, float("nan"), -4.0):
            (proposal,) = search.ask()
            search.tell(proposal.uid, value)
        (proposal,) = search.ask()
        search.fail(proposal.uid, "crashed")
        assert search.best is not None
        assert search.best.score == (3.0 if mode == "maximize" else -4.0)
        assert (search.counts.told, search.counts.failed) == (2, 5)


def test_without_a_single_good_result_there_is_no_best_and_the_search_goes_on(
    make: Callable[..., Search], wide: Space
) -> None:
    search = ready(make(), wide)
    for _ in range(30):
        (proposal,) = search.ask()
        search.fail(proposal.uid)
    assert search.best is None
    assert len(search.ask()) == 1


def test_strangers_and_second_results(make: Callable[..., Search], wide: Space) -> None:
    search = ready(make(), wide)
    for stranger in (0, -1, 99, None, "0", True):
        with pytest.raises(ValueError, match="was never proposed here"):
            search.tell(stranger, 1.0)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="was never proposed here"):
            search.fail(stranger)  # type: ignore[arg-type]
    (proposal,) = search.ask()
    assert search.tell(proposal.uid, 1.0)
    assert not search.tell(proposal.uid, 9.0)
    assert not search.fail(proposal.uid)
    assert search.best is not None
    assert (search.best.score, search.counts.told, search.counts.duplicate) == (1.0, 1, 1)


@pytest.mark.parametrize(
    "metric", ["0.9", [0.9], None, True, {}, {"accuracy": 0.9}, {"default": "0.9"}, {"default": None}]
)
def test_a_metric_that_is_no_number_is_refused_and_changes_nothing(
    make: Callable[..., Search], wide: Space, metric: Any
) -> None:
    search = ready(make(), wide)
    (proposal,) = search.ask()
    with pytest.raises(ValueError, match="wanted a number"):
        search.tell(proposal.uid, metric)
    assert (search.counts.told, search.counts.pending) == (0, 1)
    assert search.tell(proposal.uid, {"default": np.float32(0.5), "macs": 7})
    assert search.best is not None
    assert search.best.metrics == {"default": 0.5, "macs": 7}


def test_a_result_after_a_failure_counts_after_all(make: Callable[..., Search], wide: Space) -> None:
    search = ready(make(), wide)
    (proposal,) = search.ask()
    search.fail(proposal.uid, "no sign of life")
    assert search.tell(proposal.uid, 2.0)
    assert (search.counts.told, search.counts.failed) == (1, 0)
    assert search.best is not None
    assert search.best.uid == proposal.uid


@pytest.mark.parametrize("stop", [0, 1, 20, 39])
def test_killed_and_resumed_it_goes_on_as_the_unbroken_one(
    make: Callable[..., Search], wide: Space, tmp_path: Path, stop: int
) -> None:
    unbroken = Run.start(make(seed=2), wide)
    broken = Run.start(make(seed=2), wide, path=tmp_path / "journal.jsonl")
    drive(unbroken, 0, 40)
    drive(broken, 0, stop)
    broken.close()
    resumed = Run.resume(make(seed=2), tmp_path / "journal.jsonl")
    drive(resumed, stop, 40)
    assert resumed.search.trials == unbroken.search.trials
    assert resumed.search.counts == unbroken.search.counts
    assert resumed.search.best == unbroken.search.best


def drive(run: Run, first: int, last: int) -> None:
    """Three pending at any time, results out of order, failures among them."""
    for i in range(first, last):
        run.ask(2 if i % 5 == 0 else 1)
        pending = run.search.pending
        if len(pending) > 3:
            proposal = pending[i % 3]
            if i % 6 == 4:
                run.fail(proposal.uid, "crashed")
            else:
                run.tell(proposal.uid, score(proposal.tokens))


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None, True])
def test_a_bad_seed_is_refused(make: Callable[..., Search], seed: Any) -> None:
    with pytest.raises(ValueError, match=r"seed is .* wanted a whole number from 0 up"):
        make(seed=seed)


def test_a_search_has_one_space(make: Callable[..., Search], wide: Space) -> None:
    with pytest.raises(RuntimeError, match="call setup"):
        make().ask()
    with pytest.raises(ValueError, match="wanted one of 'maximize', 'minimize'"):
        make().setup(wide, "max")
    search = ready(make(), wide)
    with pytest.raises(RuntimeError, match="has a space already"):
        search.setup(wide)
    assert search.fresh().trials == {}
