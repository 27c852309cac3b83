"""Hypervolume and its expected improvement: boxes against what they cover, the closed form against draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_tuners.search.model.hypervolume import cut_open_part, hypervolume, log_expected_hypervolume_improvement

points = st.integers(2, 4).flatmap(
    lambda m: st.lists(st.tuples(*[st.integers(0, 5)] * m), min_size=1, max_size=7).map(
        lambda rows: np.array(rows, dtype=float)
    )
)


@given(points, st.data())
def test_the_boxes_cover_what_no_point_dominates_each_place_once(values: Any, data: Any) -> None:
    m = values.shape[1]
    lows, highs = cut_open_part(values, np.zeros(m))
    place = np.array(data.draw(st.tuples(*[st.floats(0.01, 6.99)] * m)))
    place = np.where(place % 1 == 0, place + 0.005, place)  # not on an edge
    inside = ((place > lows) & (place < highs)).all(axis=1)
    dominated = (values > place).all(axis=1).any()
    assert inside.sum() == (0 if dominated else 1)


@given(points, st.data())
def test_without_deviations_the_improvement_is_what_a_point_adds(values: Any, data: Any) -> None:
    m = values.shape[1]
    new = np.array([data.draw(st.tuples(*[st.floats(0, 8)] * m))])
    lows, highs = cut_open_part(values, np.zeros(m))
    gain = np.exp(log_expected_hypervolume_improvement(new, np.zeros((1, m)), lows, highs))[0]
    added = hypervolume(np.concatenate([values, new]), np.zeros(m)) - hypervolume(values, np.zeros(m))
    assert gain == pytest.approx(added, abs=1e-9 * 8**m)


@pytest.mark.parametrize("m", [2, 3])
def test_the_expected_improvement_is_the_mean_over_draws(m: int) -> None:
    rng = np.random.default_rng(m)
    values, mean, deviation = rng.uniform(0, 3, (5, m)), rng.uniform(1, 3, m), rng.uniform(0.2, 1, m)
    deviation[0] = 0.0  # what is known
    lows, highs = cut_open_part(values, np.zeros(m))
    expected = np.exp(log_expected_hypervolume_improvement(mean[None], deviation[None], lows, highs))[0]
    whole = hypervolume(values, np.zeros(m))
    draws = mean + deviation * rng.normal(size=(4000, m))
    gains = [hypervolume(np.concatenate([values, row[None]]), np.zeros(m)) - whole for row in draws]
    assert expected == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / 4000**0.5)


def test_points_below_the_reference_leave_everything_open() -> None:
    lows, highs = cut_open_part(np.array([[0.0, 9.0]]), np.array([1.0, 1.0]))
    assert lows.tolist() == [[1.0, 1.0]] and np.isinf(highs).all()
