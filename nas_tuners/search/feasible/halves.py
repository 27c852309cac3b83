"""Draw, uniformly and directly, architectures whose cost lies in a range, where cost is a sum over the keys.

The sums of either half of the keys are listed and paired: meet in the middle (Horowitz and Sahni, J. ACM 1974).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from search_spaces.cost.limits import Limit

MOST_SUMS = 2**20  # of one half: 8 MB, sorted in a tenth of a second

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Sampler(Protocol):
    """Draws architectures that have a cost in a range, or a few more than those (``exact`` says which)."""

    exact: bool
    share: float  # of all architectures
    effort: int  # how many simple draws one draw takes, about
    count: int  # what share is of the space's size; the nearest whole number where it is too large to be exact

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Draw ``n``, uniformly and independently. Returns: (n, keys)."""

    def every(self) -> IntArray:
        """Return all of them, in any order; only for a small ``count``. Returns: (count, keys)."""


class Halves:
    """Exact for any costs: pairs each sum of one half with the stretch of the other half's sums that completes it.

    ``columns`` are the costs of each key's options, ``limit`` is on their sum, and ``left`` of :func:`split_keys`.
    """

    exact = True
    effort = 1

    def __init__(self, columns: Sequence[FloatArray], limit: Limit, left: Sequence[int]) -> None:
        right = [key for key in range(len(columns)) if key not in set(left)]
        self._keys, self._limit = len(columns), limit
        self._left, self._right = _Half(columns, left), _Half(columns, right)
        self._first = np.searchsorted(self._right.sums, limit.low - self._left.sums, "left")
        self._last = np.searchsorted(self._right.sums, limit.high - self._left.sums, "right")
        self._until = np.cumsum(self._last - self._first)
        self.count = int(self._until[-1])
        self.share = self.count / (len(self._left.sums) * len(self._right.sums))

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Draw ``n``, uniformly and independently. Returns: (n, keys)."""
        return self._rows(rng.integers(self.count, size=n))

    def every(self) -> IntArray:
        """Return all of them. Returns: (count, keys)."""
        return self._rows(np.arange(self.count))

    def nearest(self) -> float:
        """Return the reachable sum nearest to the range, where ``share`` is 0."""
        right, near = self._right.sums, []
        for at in (self._first - 1, self._last):
            inside = (at >= 0) & (at < len(right))
            near.append(self._left.sums[inside] + right[at[inside]])
        return self._limit.nearest(np.concatenate(near))

    def _rows(self, number: IntArray) -> IntArray:
        rows = np.empty((len(number), self._keys), dtype=np.int64)
        left = np.searchsorted(self._until, number, "right")
        self._left.write(rows, left)
        self._right.write(rows, self._last[left] - (self._until[left] - number))
        return rows


class _Half:
    """All sums over some of the keys, ascending, and the options that each of them comes from."""

    def __init__(self, columns: Sequence[FloatArray], keys: Sequence[int]) -> None:
        self._keys, self._shape = list(keys), tuple(len(columns[key]) for key in keys)
        sums = reduce(lambda total, key: np.add.outer(total, columns[key]).ravel(), keys, np.zeros(1))
        self._order = np.argsort(sums, kind="stable")
        self.sums = sums[self._order]

    def write(self, rows: IntArray, index: npt.NDArray[Any]) -> None:
        """Fill in the tokens that make up the sums at ``index``."""
        if self._keys:
            for key, tokens in zip(self._keys, np.unravel_index(self._order[index], self._shape), strict=True):
                rows[:, key] = tokens


def split_keys(radices: Sequence[int], most: int = MOST_SUMS) -> list[int] | None:
    """Return the keys of one half, so that neither half has more than ``most`` sums; None where that cannot be."""
    products, halves = [1, 1], ([], [])  # type: tuple[list[int], tuple[list[int], list[int]]]
    for key in sorted(range(len(radices)), key=lambda k: -radices[k]):
        smaller = 0 if products[0] <= products[1] else 1
        products[smaller] *= radices[key]
        halves[smaller].append(key)
    return sorted(halves[0]) if max(products) <= most else None
