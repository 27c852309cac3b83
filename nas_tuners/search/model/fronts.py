"""Compare points in several objectives: nondominated fronts, crowding distance (Deb et al., 2002)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.float64]


def find_front(values: _Array) -> npt.NDArray[np.int64]:
    """Return the indices of the nondominated points, ascending.

    Args:
        values: (n, objectives), more is better in all.

    >>> find_front(np.array([[1.0, 1.0], [3.0, 1.0], [1.0, 3.0]])).tolist()
    [1, 2]
    """
    left = np.argsort(-values.sum(axis=1), kind="stable")  # who beats another comes before it
    at = 0
    while at < len(left):
        current, others = left[at], values[left]
        beaten = (others <= values[current]).all(axis=1) & (others < values[current]).any(axis=1)
        left = left[~beaten]
        at = int(np.flatnonzero(left == current)[0]) + 1
    return np.sort(left)


def rank_fronts(values: _Array) -> npt.NDArray[np.int64]:
    """Sort points into fronts: 0 is nondominated, 1 is dominated by front 0 alone (Deb et al., 2002).

    Args:
        values: (n, objectives), more is better in all.

    >>> rank_fronts(np.array([[3.0, 1.0], [1.0, 3.0], [1.0, 1.0], [0.0, 0.0]])).tolist()
    [0, 0, 1, 2]
    """
    at_least = (values[None, :, :] >= values[:, None, :]).all(axis=2)
    beaten = at_least & ~at_least.T  # [i, j]: j is nowhere worse than i, and i is somewhere worse than j
    ranks = np.full(len(values), -1, dtype=np.int64)
    front = 0
    while (left := ranks < 0).any():
        ranks[left & ~(beaten & left).any(axis=1)] = front
        front += 1
    return ranks


def crowd(values: _Array, ranks: npt.NDArray[np.int64]) -> _Array:
    """Return the crowding distance of each point on its front; infinite at the ends (Deb et al., 2002).

    Args:
        values: (n, objectives).
        ranks: (n,), the front of each.

    >>> crowd(np.array([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0]]), np.zeros(3, dtype=int)).tolist()
    [inf, 2.0, inf]
    """
    apart = np.zeros(len(values))
    for rank in range(int(ranks.max(initial=-1)) + 1):
        members = np.flatnonzero(ranks == rank)
        for column in values[members].T:
            order = np.argsort(column, kind="stable")
            spread = column[order[-1]] - column[order[0]]
            apart[members[order[[0, -1]]]] = math.inf
            if spread > 0:
                apart[members[order[1:-1]]] += (column[order[2:]] - column[order[:-2]]) / spread
    return apart
