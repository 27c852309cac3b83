"""Drawing, uniformly and directly, architectures whose cost lies in a range, where cost is a sum over the keys.

Two ways to count sums. :class:`Halves` lists the sums of either half of the keys and pairs them (meet in the middle,
Horowitz and Sahni, J. ACM 1974): exact for any numbers, up to 2^20 sums a half. :class:`Grid` is dynamic programming
over bins: exact where the costs are multiples of a step that is not too fine; else it draws from a slightly wider
range, and the caller has to drop what lies outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

HALF_LIMIT = 2**20  # sums of one half: 8 MB, sorted in a tenth of a second
_GRID_BINS = 2**16
_GRID_CELLS = 2**24  # of all keys' rows together: 128 MB
_GRID_STEPS = 4e8  # additions while the rows are filled: half a second

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Sampler(Protocol):
    """Knows which architectures have a cost in ``[low, high]``, or a few more than those (``exact`` says which)."""

    exact: bool
    share: float  # of all architectures
    effort: int  # how many simple draws one draw takes, about
    count: int  # what share is of the space's size; the nearest whole number where it is too large to be exact

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Draw ``n``, uniformly and independently. Returns: (n, keys)."""

    def every(self) -> IntArray:
        """All of them, in any order; only for a small ``count``. Returns: (count, keys)."""


class Range(Sampler, Protocol):
    """Knows what one range of cost leaves."""

    def nearest(self) -> float:
        """The reachable cost nearest to the range, where ``share`` is 0."""


def sampler(columns: Sequence[FloatArray], low: float, high: float, whole: bool) -> Range:
    """Return the better way for these costs.

    Args:
        columns: the costs of each key's options.
        low: the smallest sum wanted, inclusive; may be infinite.
        high: the largest sum wanted, inclusive; may be infinite.
        whole: whether all costs are whole numbers.
    """
    left = _halved([len(column) for column in columns])
    return Grid(columns, low, high, whole) if left is None else Halves(columns, low, high, left)


def _halved(radices: Sequence[int]) -> list[int] | None:
    """The keys of the first half, so that neither half has too many sums; None where that cannot be."""
    products, halves = [1, 1], ([], [])  # type: tuple[list[int], tuple[list[int], list[int]]]
    for key in sorted(range(len(radices)), key=lambda k: -radices[k]):
        smaller = 0 if products[0] <= products[1] else 1
        products[smaller] *= radices[key]
        halves[smaller].append(key)
    return sorted(halves[0]) if max(products) <= HALF_LIMIT else None


class _Half:
    """All sums over some of the keys, ascending, and the options that each of them comes from."""

    def __init__(self, columns: Sequence[FloatArray], keys: Sequence[int]) -> None:
        self.keys, self._shape = list(keys), tuple(len(columns[key]) for key in keys)
        sums = reduce(lambda total, key: np.add.outer(total, columns[key]).ravel(), keys, np.zeros(1))
        self._order = np.argsort(sums, kind="stable")
        self.sums = sums[self._order]

    def write(self, rows: IntArray, index: npt.NDArray[Any]) -> None:
        """Fill in the tokens that make up the sums at ``index``."""
        if self.keys:
            for key, tokens in zip(self.keys, np.unravel_index(self._order[index], self._shape), strict=True):
                rows[:, key] = tokens


class Halves:
    """Exact, by pairing each sum of one half with the stretch of the other half's sums that complete it."""

    exact = True
    effort = 1

    def __init__(self, columns: Sequence[FloatArray], low: float, high: float, left: Sequence[int]) -> None:
        right = [key for key in range(len(columns)) if key not in set(left)]
        self._keys, self._low, self._high = len(columns), low, high
        self._left, self._right = _Half(columns, left), _Half(columns, right)
        self._first = np.searchsorted(self._right.sums, low - self._left.sums, "left")
        self._last = np.searchsorted(self._right.sums, high - self._left.sums, "right")
        self._until = np.cumsum(self._last - self._first)
        self.count = int(self._until[-1])
        self.share = self.count / (len(self._left.sums) * len(self._right.sums))

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        return self._rows(rng.integers(self.count, size=n))

    def every(self) -> IntArray:
        return self._rows(np.arange(self.count))

    def nearest(self) -> float:
        right, near = self._right.sums, []
        for at in (self._first - 1, self._last):
            inside = (at >= 0) & (at < len(right))
            near.append(self._left.sums[inside] + right[at[inside]])
        return nearest_of(np.concatenate(near), self._low, self._high)

    def _rows(self, number: IntArray) -> IntArray:
        rows = np.empty((len(number), self._keys), dtype=np.int64)
        left = np.searchsorted(self._until, number, "right")
        self._left.write(rows, left)
        self._right.write(rows, self._last[left] - (self._until[left] - number))
        return rows


class Grid:
    """Key by key over binned costs: an option's chance is the share of completions that stay in the range."""

    effort = 1

    def __init__(self, columns: Sequence[FloatArray], low: float, high: float, whole: bool) -> None:
        base, top = sum(float(c.min()) for c in columns), sum(float(c.max()) for c in columns)
        self._turned = high - base > top - low  # count from the end that the range is nearer to: no digits are lost
        if self._turned:
            columns, low, high, base, top = [-column for column in columns], -high, -low, -top, -base
        self._low, self._high, self._base = low, high, base
        self._step, self.exact = _step(columns, top - base, whole)
        self._bins = [np.rint((column - column.min()) / self._step).astype(np.int64) for column in columns]
        self._size = sum(int(bins.max()) for bins in self._bins) + 1
        slack = 0.0 if self.exact else min(len(columns) / 2, 3 * math.sqrt(len(columns)))  # beyond: one in 10^7
        ends = np.array([(low - base) / self._step - slack, (high - base) / self._step + slack + 1])
        self._from, self._until = (self._bin(end) for end in (np.ceil(ends[0]), np.floor(ends[1])))
        self._below = self._shares()
        self.share = float(self._below[0][self._until] - self._below[0][self._from])
        self.count = round(Fraction(self.share) * math.prod(len(column) for column in columns))

    def _bin(self, end: float) -> int:
        return int(min(max(end, 0.0), float(self._size)))

    def _shares(self) -> list[FloatArray]:
        """For each key: of all ways to choose from it onwards, the share that sums to less than each bin."""
        shares = np.zeros(self._size)
        shares[0] = 1.0
        rows = [shares]
        for bins in reversed(self._bins):
            wanted, shares = shares, np.zeros(self._size)
            for bin_, times in zip(*np.unique(bins, return_counts=True), strict=True):
                shares[bin_:] += wanted[: self._size - bin_] * (times / len(bins))
            rows.append(shares)
        return [np.concatenate([[0.0], np.cumsum(row)]) for row in reversed(rows)]

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        rows, used = np.empty((n, len(self._bins)), dtype=np.int64), np.zeros(n, dtype=np.int64)
        for key, bins in enumerate(self._bins):
            chances = self._chances(key, used).cumsum(axis=1)
            picked = (chances <= (rng.random(n) * chances[:, -1])[:, None]).sum(axis=1)
            rows[:, key] = np.minimum(picked, len(bins) - 1)
            used += bins[rows[:, key]]
        return rows

    def every(self) -> IntArray:
        rows, used = np.empty((1, 0), dtype=np.int64), np.zeros(1, dtype=np.int64)
        for key, bins in enumerate(self._bins):
            at, token = np.nonzero(self._chances(key, used) > 0)
            rows, used = np.column_stack([rows[at], token]), used[at] + bins[token]
        return rows

    def nearest(self) -> float:
        reached = np.flatnonzero(np.diff(self._below[0])) * self._step + self._base
        cost = nearest_of(reached, self._low, self._high)
        return -cost if self._turned else cost

    def _chances(self, key: int, used: IntArray) -> FloatArray:
        """(n, radix): the share of completions in the range, for each option of a key."""
        spent, below = used[:, None] + self._bins[key][None, :], self._below[key + 1]
        ends = (np.clip(end - spent, 0, self._size) for end in (self._until, self._from))
        upper, lower = (below[end] for end in ends)
        chances: FloatArray = upper - lower
        return chances


def _step(columns: Sequence[FloatArray], span: float, whole: bool) -> tuple[float, bool]:
    """The width of a bin, and whether every cost is a multiple of it."""
    options = sum(len(np.unique(column)) for column in columns)
    bins = int(max(2**8, min(_GRID_BINS, _GRID_CELLS // len(columns), _GRID_STEPS // options)))
    if span == 0:
        return 1.0, True
    if whole:
        divisor = math.gcd(*(int(cost - column.min()) for column in columns for cost in column))
        if span / divisor <= bins:
            return float(divisor), True
    return span / bins, False


def nearest_of(costs: npt.NDArray[np.floating[Any]], low: float, high: float) -> float:
    """The one of ``costs`` that is nearest to a range."""
    return float(costs[np.maximum(low - costs, costs - high).argmin()])
