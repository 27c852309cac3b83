"""Measure fronts by hypervolume, and expect how much a new point adds to it.

Zitzler and Thiele, PPSN 1998. The expected improvement is exact for independent normal distributions: what no point
dominates is cut into boxes, over each of which it is a product (Emmerich et al., CEC 2011; Yang et al., 2019). Differs:
an objective whose value is known counts with a deviation of 0.
"""

from __future__ import annotations

import math

import numpy as np

from nas_tuners.search.model.distances import FloatArray

_LEAST = 1e-300


def hypervolume(values: FloatArray, reference: FloatArray) -> float:
    """Return the hypervolume of points above a reference point.

    Args:
        values: (n, objectives), more is better in all; points that are not better than ``reference`` count nothing.
        reference: (objectives,).

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.zeros(2))
    3.0
    """
    values = values[(values > reference).all(axis=1)]
    if not len(values):
        return 0.0
    if values.shape[1] == 1:
        return float(values.max() - reference[0])
    values = values[np.argsort(-values[:, -1], kind="stable")]
    below = [*values[1:, -1].tolist(), float(reference[-1])]
    slices = (
        (value - under) * hypervolume(values[: at + 1, :-1], reference[:-1])
        for at, (value, under) in enumerate(zip(values[:, -1].tolist(), below, strict=True))
        if value > under
    )
    return float(sum(slices))


def cut_open_part(values: FloatArray, reference: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cut what lies above a reference point, and is dominated by no point, into disjoint boxes.

    Args:
        values: (n, objectives), more is better in all.
        reference: (objectives,).

    Returns: the lowest and the highest corners, twice (boxes, objectives); the latter may be infinite.

    >>> cut_open_part(np.array([[1.0, 2.0]]), np.zeros(2))
    (array([[0., 2.],
           [1., 0.]]), array([[inf, inf],
           [inf,  2.]]))
    """
    values = values[(values > reference).all(axis=1)]
    if values.shape[1] == 1:
        return np.array([[values.max(initial=float(reference[0]))]]), np.array([[math.inf]])
    values = values[np.argsort(-values[:, -1], kind="stable")]
    edges = np.array([math.inf, *values[:, -1].tolist(), float(reference[-1])])
    lows, highs = [], []
    for at in range(len(edges) - 1):  # below the upper edge, the first ``at`` points may dominate
        if edges[at] > edges[at + 1]:
            low, high = cut_open_part(values[:at, :-1], reference[:-1])
            lows.append(np.column_stack([low, np.full(len(low), edges[at + 1])]))
            highs.append(np.column_stack([high, np.full(len(high), edges[at])]))
    return np.concatenate(lows), np.concatenate(highs)


def log_expected_hypervolume_improvement(
    means: FloatArray, deviations: FloatArray, lows: FloatArray, highs: FloatArray
) -> FloatArray:
    """Return the logarithm of the hypervolume that a point is expected to add.

    Args:
        means, deviations: of normal distributions, independent of each other, (n, objectives).
        lows, highs: the corners of the boxes that no point dominates, (boxes, objectives).

    Returns: (n,).
    """
    sides = _expect_excess(means, deviations, lows) - _expect_excess(means, deviations, highs)
    return np.asarray(np.log(np.maximum(sides.prod(axis=2).sum(axis=1), _LEAST)))


def _expect_excess(means: FloatArray, deviations: FloatArray, edges: FloatArray) -> FloatArray:
    """Return by how much values are expected to exceed edges, those below counting 0. Returns: (n, boxes, m)."""
    from scipy.special import ndtr

    above = means[:, None, :] - np.where(np.isinf(edges), 0.0, edges)
    spread = np.broadcast_to(deviations[:, None, :], above.shape)
    z = above / np.maximum(spread, 1e-12)
    excess = spread * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) + above * ndtr(z)
    excess = np.where(spread > 0, excess, np.maximum(above, 0.0))
    return np.asarray(np.where(np.isinf(edges), 0.0, np.maximum(excess, 0.0)))
