"""Every search of the table, and some variants of them, keeps the promises of a search: ``nas_tuners.testing``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nas_tuners.search import NSGA2, Annealing, Bayesian, Evolution, Search
from nas_tuners.search.algorithms import ALGORITHMS
from nas_tuners.search.earlier import Earlier
from nas_tuners.testing import CHECKS
from nas_tuners.testing.driving import history, ready
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
    "nsga2 of two objectives": lambda seed=0: NSGA2({"default": "maximize", "latency_ms": "minimize"}, seed=seed),
}
MODELS = ("bayesian", "bayesian after others")
"""They think longer."""


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if name in MODELS else ()) for name in SEARCHES])
def make(request: pytest.FixtureRequest) -> Callable[..., Search]:
    return SEARCHES[request.param]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_it_keeps_the_promises_of_a_search(make: Callable[[], Search], check: Callable[..., None]) -> None:
    check(make)


def test_another_seed_is_another_run(make: Callable[..., Search]) -> None:
    assert history(ready(lambda: make(seed=5)), 30) != history(ready(lambda: make(seed=6)), 30)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None, True])
def test_a_bad_seed_is_refused(make: Callable[..., Search], seed: Any) -> None:
    with pytest.raises(ValueError, match=r"seed is .* wanted a whole number from 0 up"):
        make(seed=seed)


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
def test_a_seed_gives_the_sequence_that_it_always_gave(name: str) -> None:
    """A journal of an earlier version goes on as it would have then."""
    assert digest(history(ready(lambda: SEARCHES[name](seed=3)), 80)) == GOLDEN[name]


def digest(tokens: list[tuple[int, ...]]) -> str:
    return hashlib.sha256(json.dumps([list(map(int, row)) for row in tokens]).encode()).hexdigest()[:12]
