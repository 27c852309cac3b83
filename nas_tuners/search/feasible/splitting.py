"""Find the few architectures that keep limits, whatever their costs are made of: subset simulation.

Au and Beck, "Estimation of small failure probabilities in high dimensions by subset simulation", Probabilistic
Engineering Mechanics 2001: a population of architectures goes down from level to level of violation. At each level the
better part is kept and multiplied, and each walks on by changes of single keys that stay below the level. The share of
the feasible is the product of the parts kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from nas_tuners.search.feasible.halves import FloatArray, IntArray
from search_spaces import Space

_POPULATION = 2**12  # or fewer, where each has hundreds of keys
_LEAST_POPULATION = 2**8
_KEPT = 0.25  # of the population, about, at each level
_SWEEPS = 2  # changes tried a key, at each level and for each draw
_MOST_CHANGES = 128  # but no more than these
_LEVELS = 200
_MOBILE = 0.05  # of the changes are made at least, where draws start from: below, a walk would stay where it is
_PATIENCE = 4  # levels without a step down, before the best is called the nearest
_MOST_WORK = 3e8  # keys of architectures looked at before giving up: a few seconds

Mask = npt.NDArray[np.bool_]


class Splitting:
    """Draws from nearly all feasible architectures, nearly uniformly; never exact.

    Args:
        space: what can be chosen.
        excess: from (n, keys) to (n,), how far each architecture is from keeping the limits; 0 where it does.

    Attributes:
        share: of all architectures, those that keep the limits, as estimated; 0 where none was found.
        best: the architecture found that is nearest to keeping them.
    """

    exact = False
    effort = 32

    def __init__(self, space: Space, excess: Callable[[IntArray], FloatArray]) -> None:
        self._space, self._radices, self._excess = space, np.array(space.radices, dtype=np.int64), excess
        self._settings = np.log(self._radices)
        self._free = np.flatnonzero(self._radices > 1)
        self._changes = min(_SWEEPS * len(self._free), _MOST_CHANGES)
        self.share = self._descend(np.random.default_rng(0))
        self.count = space.size

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Draw ``n``: each walks on from one that is known, and is where it was feasible last. Returns: (n, keys)."""
        level, known = self._start
        rows = known[rng.integers(len(known), size=n)]
        feasible = rows.copy()  # until it comes to one, the start, which need not be feasible
        for moved, excess in self._walk(rng, rows, level):
            there = moved & (excess == 0)
            feasible[there] = rows[there]
        return self._space.canonical(feasible)

    def every(self) -> IntArray:
        """Return those that were found. Returns: (n, keys)."""
        return np.unique(self._space.canonical(self._found), axis=0)

    def _descend(self, rng: np.random.Generator) -> float:
        """Go down to the feasible, and keep them. Returns: their share, or 0."""
        size = max(_LEAST_POPULATION, min(_POPULATION, 2**17 // len(self._radices)))
        rows = self._space.fill(self._space.sample_tokens(rng, size), rng)
        excess, share, vain, level = self._excess(rows), 1.0, 0, np.inf
        self._start = (level, rows)
        for _ in range(int(min(_LEVELS, _MOST_WORK / (rows.size * max(self._changes, 1)) + 1))):
            lower = _lower(excess)
            vain = vain + 1 if lower >= level else 0
            level = min(level, lower)
            kept = np.flatnonzero(excess <= level)
            share *= len(kept) / len(rows)
            at, moves = kept[rng.integers(len(kept), size=len(rows))], 0
            rows, excess = rows[at], excess[at]
            for moved, new in self._walk(rng, rows, level):
                excess, moves = np.where(moved, new, excess), moves + int(moved.sum())
            if moves >= _MOBILE * self._changes * size:
                self._start = (level, rows)
            if level == 0 or vain == _PATIENCE:
                break
        self.best, self._found = self._space.canonical(rows[[excess.argmin()]])[0], rows[excess == 0]
        return share * len(self._found) / len(rows)

    def _walk(self, rng: np.random.Generator, rows: IntArray, level: float) -> Iterator[tuple[Mask, FloatArray]]:
        """Try changes of single keys, in place, and make those that stay at or below the level.

        Keys that do not matter walk as well. An architecture that leaves many of them free would then be drawn as many
        times more often: so a step towards one is made the more rarely (Metropolis).

        Yields: which rows moved, and the excess that the move led to, or would have led to.
        """
        every, weights = np.arange(len(rows)), self._weights(rows)
        for _ in range(self._changes):
            at = self._free[rng.integers(len(self._free), size=len(rows))]
            before = rows[every, at]
            rows[every, at] = (before + rng.integers(1, self._radices[at])) % self._radices[at]
            excess = self._excess(rows)
            refused = excess > level
            new = self._weights(rows)
            if weights is not None and new is not None:
                refused |= np.log(1.0 - rng.random(len(rows))) > new - weights
                weights = np.where(refused, weights, new)
            rows[refused, at[refused]] = before[refused]
            yield ~refused, excess

    def _weights(self, rows: IntArray) -> FloatArray | None:
        """Return the logarithm of the number of settings of the keys that matter, (n,); None where all always do."""
        conditions = self._space.conditions
        return None if conditions is None else np.asarray(conditions.active(rows) @ self._settings)


def _lower(excess: npt.NDArray[np.float64]) -> float:
    """Return the next level: a part of the population is at or below it, and not all of it if that can be."""
    level = float(np.quantile(excess, _KEPT, method="lower"))
    if level == excess.max() and level > excess.min():
        return float(excess[excess < level].max())
    return level
