"""The model against textbook formulas, its gradient against differences, and the improvement against integration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats

from nas_tuners.search.model.distances import Distances
from nas_tuners.search.model.gaussian_process import GaussianProcess, Hyperparameters, fit
from nas_tuners.search.model.improvement import log_expected_improvement, normalize
from search_spaces import Space
from tests.spaces import SPACES

SPACE = Space.from_json(SPACES["20 x 4"])


@pytest.fixture
def data() -> tuple[Distances, Any, Any]:
    rng = np.random.default_rng(1)
    distances, rows = Distances(SPACE), SPACE.sample_tokens(rng, 30)
    effects = rng.normal(size=(20, 4))
    return distances, distances.read(rows), normalize(effects[np.arange(20), rows].sum(axis=1))


def test_it_predicts_as_the_formulas_say(data: tuple[Distances, Any, Any]) -> None:
    distances, levels, scores = data
    rng = np.random.default_rng(2)
    given = Hyperparameters(rng.uniform(0, 1, 20), rng.uniform(0, 1, 20), 0.7, 0.1, 0.4)
    runs = np.repeat([0, 1, 2], 10)
    others = distances.read(SPACE.sample_tokens(rng, 7))

    def kernel(one: Any, two: Any, of: Any, other: Any) -> Any:
        at = np.indices((len(one), len(two))).reshape(2, -1)
        apart = distances.between(one[at[0]], two[at[1]])
        value = given.additive @ (1 - apart) + given.product * np.exp(-given.decay @ apart)
        return value.reshape(len(one), len(two)) * np.exp(-given.unlike * (of[:, None] != other))

    noisy = kernel(levels, levels, runs, runs) + (given.noise + 1e-6) * np.eye(30)
    here = np.zeros(7)
    cross = kernel(others, levels, here, runs)
    means, deviations = GaussianProcess(distances, given, levels, scores, runs).predict(others)
    assert means == pytest.approx(cross @ np.linalg.solve(noisy, scores))
    variance = kernel(others, others, here, here) - cross @ np.linalg.solve(noisy, cross.T)
    assert deviations == pytest.approx(np.sqrt(np.diag(variance)))


def test_the_gradient_is_that_of_the_loss(data: tuple[Distances, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(scipy.optimize, "minimize", lambda loss, start, **_: seen.append((loss, start)) or Found(start))
    fit(*data, np.arange(30) % 3)
    ((loss, start),) = seen
    at = start + np.random.default_rng(3).normal(size=len(start))
    steps = 1e-5 * np.eye(len(at))
    slope = [(loss(at + step)[0] - loss(at - step)[0]) / 2e-5 for step in steps]
    assert loss(at)[1] == pytest.approx(slope, rel=1e-4, abs=1e-6)


class Found:
    """What an optimizer returns."""

    def __init__(self, x: Any) -> None:
        self.x = x


def test_it_finds_which_keys_matter() -> None:
    rng = np.random.default_rng(4)
    distances, rows = Distances(SPACE), SPACE.sample_tokens(rng, 120)
    scores = normalize(rng.normal(size=4)[rows[:, 3]] + rng.normal(size=4)[rows[:, 11]])
    given = fit(distances, distances.read(rows), scores)
    assert set(np.argsort(-given.additive)[:2]) == {3, 11}
    assert given.noise < 0.05


def test_improvement_is_its_integral_and_never_minus_infinity() -> None:
    means, deviations, best = np.array([0.3, -1.0, 2.0, -4.0]), np.array([0.5, 0.4, 0.1, 1.0]), 0.8
    found = log_expected_improvement(means, deviations, best)
    for value, mean, deviation in zip(found, means, deviations, strict=True):
        density = scipy.stats.norm(mean, deviation).pdf
        whole, _ = scipy.integrate.quad(lambda y, p=density: (y - best) * p(y), best, mean + 12 * deviation)
        if whole > 1e-12:
            assert value == pytest.approx(math.log(whole), rel=1e-5)
    far = log_expected_improvement(np.array([-50.0, -60.0, -1e5]), np.ones(3), 0.0)
    assert np.isfinite(far).all() and far[0] > far[1] > far[2]


@pytest.mark.parametrize(
    "scores", [[1.0, 1.0, 1.0], [-math.inf, -math.inf], [0.5], [0.1, 0.2, -math.inf, 0.3, -1e300, 0.25]]
)
def test_scores_keep_their_order_on_one_scale(scores: list[float]) -> None:
    found = normalize(np.array(scores))
    assert np.isfinite(found).all() and np.abs(found).max() < 5
    order = np.argsort(scores)
    assert (np.diff(found[order]) >= 0).all()
