"""Distances between architectures, by hand; and that whatever is made of them can be a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nas_tuners.search.model.distances import Distances
from search_spaces import Space
from tests.spaces import SPACES


def between(space: Space, one: Any, other: Any) -> Any:
    """Distances by key, of two architectures."""
    distances = Distances(space)
    rows = np.array([one, other], dtype=np.int64)
    levels = distances.read(rows)
    return distances.between(levels[:1], levels[1:])[:, 0].tolist()


def of(**entries: Any) -> Space:
    return Space.from_json(entries)


NAMES = {"_type": "layer_choice", "_value": ["conv", "pool", "skip"]}
SIZES = {"_type": "layer_choice", "_value": ["7", "3", "5"]}
INPUTS = {"_type": "input_choice", "_value": {"candidates": ["a", "b", "c"], "n_chosen": None}}
MANY = {"_type": "input_choice", "_value": {"candidates": [f"n{i}" for i in range(20)], "n_chosen": None}}
PAIRS = {"_type": "input_choice", "_value": {"candidates": [f"n{i}" for i in range(13)], "n_chosen": 2}}


@pytest.mark.parametrize(
    ("entry", "one", "other", "distance"),
    [
        (NAMES, 0, 2, 1),
        (NAMES, 1, 1, 0),
        (SIZES, 1, 2, 0.75),  # 3 and 5: two names, half of the way from 3 to 7
        (SIZES, 0, 1, 1),
        ({"_type": "choice", "_value": [0.1, 0.01, 0.001]}, 0, 1, 0.75),
        ({"_type": "choice", "_value": ["sgd", "adam"]}, 0, 1, 1),
        ({"_type": "randint", "_value": [0, 5]}, 1, 2, 0.5 + 0.125),
        ({"_type": "randint", "_value": [0, 10**9]}, 0, 10**9 - 1, 1),
        (INPUTS, 0b011, 0b110, 1 - 1 / 3),
        (INPUTS, 0, 0, 0),
        (INPUTS, 0, 0b111, 1),
        (MANY, 0, 2**20 - 1, 1),
        (MANY, 0, 0b11, 2 / 20),
        (PAIRS, 0, 1, 2 / 13),  # n0 n1 and n0 n2
    ],
)
def test_by_hand(entry: Any, one: int, other: int, distance: float) -> None:
    assert between(of(key=entry), (one,), (other,)) == [pytest.approx(distance)]


def test_a_key_that_does_not_matter_is_at_distance_one_from_any_that_does() -> None:
    space = of(op=NAMES, size=SIZES | {"_when": {"op": ["conv"]}})
    assert between(space, (0, 0), (1, 0)) == [1, 1]
    assert between(space, (1, 0), (2, 0)) == [1, 0]
    assert between(space, (0, 0), (0, 1)) == [0, 1]


@pytest.mark.parametrize("name", SPACES)
def test_every_space_gives_distances_and_kernels(name: str) -> None:
    """Additive and product kernels are positive semidefinite, whatever the weights."""
    space, rng = Space.from_json(SPACES[name]), np.random.default_rng(0)
    distances = Distances(space)
    levels = distances.read(space.sample_tokens(rng, 40))
    pairs = np.indices((40, 40)).reshape(2, -1)
    apart = distances.between(levels[pairs[0]], levels[pairs[1]])
    assert apart.shape == (distances.keys, 1600)
    assert (apart >= 0).all() and (apart <= 1 + 1e-12).all()
    weights = rng.uniform(0, 2, size=distances.keys)
    by_levels = distances.one_hot(levels) @ distances.weighted(weights, levels)
    assert by_levels == pytest.approx((weights @ apart).reshape(40, 40))
    for kernel in (np.exp(-by_levels), weights.sum() - by_levels):
        assert np.linalg.eigvalsh(kernel + 1e-9 * np.eye(40)).min() >= 0
