"""Landscapes are what they say, and regrets are counted by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from nas_tuners.search import RandomSearch
from nas_tuners.testing.quality import mean_and_error, measure, trace_regret, try_architectures
from nas_tuners.testing.tasks import Landscape, Task, find_maximum, landscapes, nested_space
from search_spaces import Space
from tests.spaces import layer

SMALL = Space.from_json({"a": layer("0", "1", "2"), "b": layer("0", "1")})


@pytest.mark.parametrize("neighbours", [0, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_the_highest_value_of_all(neighbours: int, seed: int) -> None:
    space = nested_space(2, 3)
    landscape = Landscape(space, neighbours, seed)
    assert landscape.optimum == pytest.approx(landscape.values(space.every()).max())


def test_a_landscape_is_a_sum_of_what_its_keys_draw() -> None:
    flat = Space.from_json({f"k{i}": layer("a", "b", "c") for i in range(4)})
    landscape = Landscape(flat, 1, 7)
    rng = np.random.default_rng([7, 1])
    meet = [rng.choice([i for i in range(4) if i != at], 1, replace=False)[0] for at in range(4)]
    parts = [rng.normal(size=(3, 3)) for _ in range(4)]
    row = (2, 0, 1, 2)
    wanted = sum(parts[at][row[at], row[meet[at]]] for at in range(4)) / 2
    assert landscape.values(np.array([row]))[0] == pytest.approx(wanted)


def test_what_does_not_matter_contributes_nothing() -> None:
    space = nested_space(1, 2)
    landscape = Landscape(space, 1, 0)
    one, other = landscape.values(np.array([[0, 1, 0], [0, 1, 3]]))
    assert one == other


def test_the_maximum_of_a_sum_of_tables() -> None:
    rng = np.random.default_rng(0)
    chain: list[Any] = [((at, at + 1), rng.normal(size=(3, 3))) for at in range(3)]
    whole = sum(t.reshape([3 if i in scope else 1 for i in range(4)]) for scope, t in chain)
    assert find_maximum(chain) == pytest.approx(whole.max())


def test_random_architectures_spread_by_about_one() -> None:
    for task in landscapes():
        sees, rows = task.sees(0), task.space.sample_tokens(np.random.default_rng(0), 100)
        assert 0.7 < np.std([sees(task.space.decode(row)) for row in rows.tolist()]) < 1.4
        assert task.sees(0)(task.space.decode(rows[0].tolist())) != task.sees(1)(task.space.decode(rows[0].tolist()))


def score(choices: Any) -> float | None:
    value = 2 * choices["a"]["_idx"] + choices["b"]["_idx"]
    return None if value == 0 else float(value)


TASK = Task("by hand", SMALL, lambda seed: score, lambda seed: score, lambda seed: 5.0)


def test_a_regret_is_what_the_best_result_lacks_and_the_last_one_stays() -> None:
    regret = trace_regret(TASK, [(0, 0), (1, 0), (0, 1), (2, 0)], 6, 0)
    assert regret.tolist() == [math.inf, 3, 3, 1, 1, 1]


def test_a_search_is_measured_until_its_space_ends() -> None:
    curve = measure(RandomSearch(), TASK, 10, 0)
    assert (len(curve.regret), curve.regret[-1], curve.distinct) == (10, 0.0, 6)
    assert curve.milliseconds > 0


def test_trials_at_a_time_are_told_in_the_order_of_asking() -> None:
    search = RandomSearch()
    search.setup(SMALL)
    tried = try_architectures(search, score, 4, pending=3)
    assert tried == [search.trials[uid].tokens for uid in range(4)]
    assert (search.counts.asked, search.counts.pending) == (6, 2)


def test_means_and_standard_errors() -> None:
    mean, error = mean_and_error(np.array([[1.0, 4.0], [3.0, 4.0]]))
    assert (mean.tolist(), error.tolist()) == ([2.0, 4.0], [1.0, 0.0])
    assert mean_and_error(np.array([[1.0]]))[1].tolist() == [0.0]
