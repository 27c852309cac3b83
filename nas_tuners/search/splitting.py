"""Finding the few architectures that keep limits, whatever their costs are made of: subset simulation.

Au and Beck, "Estimation of small failure probabilities in high dimensions by subset simulation", Probabilistic
Engineering Mechanics 2001: a population of architectures goes down from level to level of violation. At each level the
better part is kept and multiplied, and each walks on by changes of single keys that stay below the level. The share of
the feasible is the product of the parts kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from nas_tuners.search.additive import FloatArray, IntArray

_POPULATION = 2**12
_KEPT = 0.25  # of the population, about, at each level
_SWEEPS = 2  # changes tried a key, at each level and for each draw
_LEVELS = 200
_PATIENCE = 8  # levels without a step down, before the best is called the nearest
_MOST_COSTS = 6e6  # architectures looked at before giving up: two seconds


class Splitting:
    """Draws from nearly all feasible architectures, nearly uniformly; never exact.

    Args:
        radices: of the space.
        excess: from (n, keys) to (n,), how far each architecture is from keeping the limits; 0 where it does.

    Attributes:
        share: of all architectures, those that keep the limits, as estimated; 0 where none was found.
        best: the architecture found that is nearest to keeping them.
    """

    exact = False
    effort = 1

    def __init__(self, radices: Sequence[int], excess: Callable[[IntArray], FloatArray]) -> None:
        self._radices, self._excess = np.array(radices, dtype=np.int64), excess
        self._free = np.flatnonzero(self._radices > 1)
        self.share = self._descend(np.random.default_rng(0))
        self.count = math.prod(radices)

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Draw ``n``: each walks on from one that is known, among the feasible. Returns: (n, keys)."""
        rows = self._found[rng.integers(len(self._found), size=n)]
        return self._walk(rng, rows, np.zeros(n), 0.0)[0]

    def every(self) -> IntArray:
        """Return those that were found. Returns: (n, keys)."""
        return np.unique(self._found, axis=0)

    def _descend(self, rng: np.random.Generator) -> float:
        """Go down to the feasible, and keep them. Returns: their share, or 0."""
        rows = rng.integers(0, self._radices, size=(_POPULATION, len(self._radices)))
        excess, share, vain, level = self._excess(rows), 1.0, 0, np.inf
        levels = int(min(_LEVELS, _MOST_COSTS / (_POPULATION * _SWEEPS * max(len(self._free), 1)) + 1))
        for _ in range(levels):
            self.best = rows[excess.argmin()]
            lower = max(_lower(excess), 0.0)
            vain = vain + 1 if lower >= level else 0
            level = min(level, lower)
            kept = np.flatnonzero(excess <= level)
            share *= len(kept) / len(rows)
            at = kept[rng.integers(len(kept), size=len(rows))]
            rows, excess = self._walk(rng, rows[at], excess[at], level)
            if level == 0 or vain == _PATIENCE:
                break
        self.best, self._found = rows[excess.argmin()], rows[excess == 0]
        return share * len(self._found) / len(rows)

    def _walk(
        self, rng: np.random.Generator, rows: IntArray, excess: FloatArray, level: float
    ) -> tuple[IntArray, FloatArray]:
        """Try changes of single keys, and keep those that stay at or below the level. Returns: rows, their excess."""
        rows, excess, every = rows.copy(), excess.copy(), np.arange(len(rows))
        for _ in range(_SWEEPS * len(self._free)):
            at = self._free[rng.integers(len(self._free), size=len(rows))]
            before = rows[every, at]
            rows[every, at] = (before + rng.integers(1, self._radices[at])) % self._radices[at]
            new = self._excess(rows)
            refused = new > level
            rows[refused, at[refused]] = before[refused]
            excess = np.where(refused, excess, new)
        return rows, excess


def _lower(excess: npt.NDArray[np.float64]) -> float:
    """The next level: what a part of the population is below, and not all of it if that can be."""
    level = float(np.quantile(excess, _KEPT, method="lower"))
    if level == excess.max() and level > excess.min():
        return float(excess[excess < level].max())
    return level
