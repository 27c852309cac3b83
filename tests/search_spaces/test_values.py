"""Grids of NNI's continuous types."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Space
from search_spaces.phases.schedule import order_by_size
from search_spaces.values import LEVELS, GridDomain


def domain(kind: str, value: list[float], **fields: int) -> Any:
    return Space.from_json({"x": {"_type": kind, "_value": value, **fields}}).domains["x"]


def test_a_range_is_a_grid_with_both_ends() -> None:
    uniform, log = domain("uniform", [0, 1]), domain("loguniform", [1e-4, 1e-1])
    assert uniform.radix == log.radix == LEVELS == 33
    assert np.allclose(np.diff(uniform.values), 1 / 32) and np.allclose(np.diff(np.log(log.values)), math.log(1e3) / 32)
    assert (log.values[0], log.values[-1], uniform.values[16]) == (1e-4, 1e-1, 0.5)


def test_points_with_a_step_are_those_that_nni_draws() -> None:
    q = 8.0
    drawn = np.exp(np.random.default_rng(0).uniform(math.log(3), math.log(100), 5000))
    nnis = set(np.clip(np.round(drawn / q) * q, 3, 100).tolist())
    ours = domain("qloguniform", [3, 100, q], _levels=4096).values
    assert set(ours) == nnis
    assert set(domain("qloguniform", [3, 100, q]).values) <= nnis
    assert domain("quniform", [0, 1, 0.1], _levels=3).values == pytest.approx([0, 0.5, 1])
    assert domain("quniform", [0, 1, 0.001]).radix == 1001  # all of them, unless the file says how many


def test_the_file_keeps_its_levels() -> None:
    for entry in (
        {"_type": "uniform", "_value": [0.0, 1.0]},
        {"_type": "loguniform", "_value": [0.1, 1.0], "_levels": 5},
        {"_type": "quniform", "_value": [0.0, 1.0, 0.1], "_levels": 33},
    ):
        assert Space.from_json({"x": entry}).to_json() == {"x": entry}
    assert Space.from_json({"x": {"_type": "uniform", "_value": [0, 1], "_levels": 33}}).digest == (
        Space.from_json({"x": {"_type": "uniform", "_value": [0, 1]}}).digest
    )


def test_the_largest_is_opened_first_by_phases() -> None:
    assert order_by_size(domain("uniform", [0, 1], _levels=3)) == (2, 1, 0)


@given(st.sampled_from(["uniform", "loguniform"]), st.floats(1e-12, 1e12), st.floats(1, 1e9), st.integers(2, 70))
def test_every_point_is_found_again_and_nothing_between(kind: str, low: float, ratio: float, levels: int) -> None:
    grid = GridDomain(kind, low, low * ratio, levels=levels)
    assert list(grid.values) == sorted(set(grid.values)) and 1 <= grid.radix <= levels
    assert all(low <= value <= grid.high for value in grid.values)
    assert [grid.token(value) for value in grid.values] == list(range(grid.radix))
    if ratio > 1.1:
        assert grid.find(math.sqrt(grid.values[0] * grid.values[1])) is None
    for strange in (None, "0.1", True, math.nan, math.inf, [low], -low):
        assert grid.find(strange) is None
    assert "points of" in grid.problems(-1)[0]
