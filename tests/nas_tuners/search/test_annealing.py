"""Annealing against a sequence worked out by hand, and where PaddleSlim's stopped early or divided by zero."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_tuners.search import Annealing
from search_spaces import Space
from tests.benchmarks.search_quality import run, tasks
from tests.spaces import SPACES, layer

WIDE = Space.from_json(SPACES["20 x 4"])
TABLES = Path(os.environ.get("NAS_TABLES", "no folder"))


class Dice:
    """Stands for the generator where only the acceptance draws: gives the numbers that it was made with."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = list(numbers)

    def random(self) -> float:
        return self.numbers.pop(0)


# With T = 2 * 0.5 ** step and a worse score, taken iff exp(-drop / T) >= 1 - u:
#  step  score   u         T          by hand                                      incumbent
SEQUENCE = [
    (0, 5.0, 0.99, 2.0),  #           the first is taken                           0
    (1, 4.0, 0.64, 1.0),  #           exp(-1)   = 0.3679 >= 0.36                   1
    (2, 3.5, 0.62, 0.5),  #           exp(-1)   = 0.3679 <  0.38                   1
    (3, 4.0, 0.0, 0.25),  #           equal is taken: exp(0) = 1 >= 1              3
    (4, math.nan, 0.5, 0.125),  #     a failure is not, but cools                  3
    (5, 3.9, 0.80, 0.0625),  #        exp(-1.6) = 0.2019 >= 0.20                   5
    (6, 3.8, 0.95, 0.03125),  #       exp(-3.2) = 0.0408 <  0.05                   5
    (7, 10.0, 0.0, 0.015625),  #      better is taken                              7
    (8, -3.0, 0.999999, 2**-7),  #    exp(-1664) = 0 < 1e-6                        7
]
INCUMBENTS = [0, 1, 1, 3, 3, 5, 5, 7, 7]


def test_the_acceptance_rule_and_the_temperature_by_hand() -> None:
    search: Any = Annealing(init_temperature=2.0, reduce_rate=0.5)
    search.setup(Space.from_json({"key": layer(*map(str, range(9)))}))
    search.rng = Dice(*(u for _, _, u, _ in SEQUENCE))
    for (step, score, _, temperature), incumbent in zip(SEQUENCE, INCUMBENTS, strict=True):
        assert search.temperature == temperature
        proposal = search.suggest((step,))
        search.tell(proposal.uid, score)
        assert search._incumbent[0] == (incumbent,)
    assert search.rng.numbers == []


@pytest.mark.parametrize(("rate", "steps"), [(0.85, 5000), (0.85**10, 600)])
def test_no_temperature_overflows_underflows_or_divides(rate: float, steps: int) -> None:
    """PaddleSlim's divides by a temperature of zero from step 4585 on, or 459."""
    search = Annealing(10.0, reduce_rate=rate, seed=1)
    search.setup(WIDE)
    scores = np.random.default_rng(2).choice([-1e300, -2.0, -1.0, 0.0, 1e-300, 1.0, 1e300], size=steps)
    with np.errstate(all="raise"):
        for step, score in enumerate(scores):
            assert 0.0 <= search.temperature <= 10.0
            assert search.temperature == pytest.approx(10.0 * rate**step, rel=1e-9)
            (proposal,) = search.ask()
            search.tell(proposal.uid, score)
    assert search.counts.told == steps
    assert search.best is not None and search.best.score == max(scores)


def sum_of_right_options(seed: int, steps: int) -> tuple[int, int | None]:
    """One search of 20 keys with one right option each. Returns: steps done, and at which all were right."""
    target = np.random.default_rng(1000 + seed).integers(0, 4, 20)
    search, found = Annealing(seed=seed), None
    search.setup(WIDE)
    for step in range(1, steps + 1):
        for proposal in search.ask():
            score = int((np.array(proposal.tokens) == target).sum())
            search.tell(proposal.uid, score)
            found = step if score == 20 and found is None else found
    return search.counts.told, found


def test_it_runs_all_of_its_steps_and_reaches_the_optimum_in_every_seed() -> None:
    """PaddleSlim's stopped early in 19 of 20, with all neighbours of a local optimum known."""
    runs = [sum_of_right_options(seed, 300) for seed in range(20)]
    assert [done for done, _ in runs] == [300] * 20
    assert all(found is not None for _, found in runs), runs


@pytest.mark.skipif(
    not (TABLES / "tables.py").is_file(), reason=f"{TABLES} has no tables.py of NAS-Bench-Macro: set NAS_TABLES"
)
def test_on_nas_bench_macro_it_beats_random_search_by_three_standard_errors() -> None:
    assert "macro" in tasks(TABLES)
    annealing, random = (
        np.array([run(TABLES, "macro", name, 200, seed, 1).regret[-1] for seed in range(30)])
        for name in ("Annealing", "RandomSearch")
    )
    error = math.sqrt((annealing.var(ddof=1) + random.var(ddof=1)) / 30)
    assert random.mean() - annealing.mean() > 3 * error


def test_it_begins_at_the_best_of_the_first_as_hot_as_they_differ() -> None:
    search: Any = Annealing(seed=4)
    search.setup(WIDE)
    scores = [3.0, 1.0, 7.0, 5.0, 2.0, 2.0, 4.0, 6.0]
    for score in scores:
        assert search.temperature == 0
        (proposal,) = search.ask()
        search.tell(proposal.uid, score)
    assert search._incumbent == (search.trials[2].tokens, 7.0)
    assert search.temperature == pytest.approx(np.std(scores))


def test_at_the_end_of_a_neighbourhood_it_heats_up_and_walks_on() -> None:
    """A hill whose neighbours are all known: it leaves by what it knows already, and finds the higher one."""
    space = Space.from_json({f"k{i}": layer(*"abcd") for i in range(4)})
    worth = {(0, 0, 0, 0): 5.0, (3, 3, 3, 3): 9.0}
    for seed in range(10):
        search: Any = Annealing(init_temperature=1e-3, init_choices=space.decode((0, 0, 0, 0)), seed=seed)
        search.setup(space)
        hot = []
        for _ in range(200):
            (proposal,) = search.ask()
            hot.append(search.temperature)
            near = sum(token == 3 for token in proposal.tokens)
            search.tell(proposal.uid, worth.get(proposal.tokens, 0.1 * near))
        assert len(set(search.trials[uid].tokens for uid in search.trials)) == 200
        assert max(hot[13:]) == 1e-3  # after the twelve neighbours of the first
