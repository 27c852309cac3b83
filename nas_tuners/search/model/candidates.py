"""Make architectures near good ones, for a model to choose among: neighbours, mutants and crossovers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nas_tuners.search.model.distances import IntArray
from search_spaces import Space

_CHILDREN = 100  # of each kind
_CHANGES = 3  # keys that a mutant differs in, at most
_ALL_STEPS = 32  # a key with more options is stepped along by powers of two


class Candidates:
    """Architectures of a space, from those that are given; known and infeasible ones are among them.

    Args:
        space: where they are from.
        rng: what draws them.
    """

    def __init__(self, space: Space, rng: np.random.Generator) -> None:
        self._space, self._rng = space, rng
        self._radices = np.array(space.radices, dtype=np.int64)
        self.free = np.flatnonzero(self._radices > 1)
        steps = [_steps(radix) for radix in self._radices[self.free].tolist()]
        self._step_keys = np.repeat(self.free, [len(own) for own in steps])
        self._steps = np.concatenate([np.zeros(0, dtype=np.int64), *steps])

    def neighbours(self, row: IntArray) -> IntArray:
        """Return all architectures that differ in one key; of keys with very many options, some of them."""
        rows = self._space.fill(np.tile(row, (len(self._steps), 1)), self._rng)
        at = np.arange(len(rows))
        rows[at, self._step_keys] = (rows[at, self._step_keys] + self._steps) % self._radices[self._step_keys]
        return rows

    def mutants(self, elite: IntArray) -> IntArray:
        """Change one to three keys of the elite."""
        rows = self._space.fill(elite[self._rng.integers(len(elite), size=_CHILDREN)], self._rng)
        changes = self._rng.integers(1, _CHANGES + 1, size=len(rows))
        for change in range(_CHANGES):
            at = np.flatnonzero(changes > change)
            keys = self.free[self._rng.integers(len(self.free), size=len(at))]
            radices = self._radices[keys]
            rows[at, keys] = (rows[at, keys] + self._rng.integers(1, radices)) % radices
        return rows

    def crossovers(self, elite: IntArray) -> IntArray:
        """Take each key from one of two of the elite."""
        pairs = self._space.fill(elite[self._rng.integers(len(elite), size=2 * _CHILDREN)], self._rng)
        first, second = np.split(pairs, 2)
        return np.where(self._rng.random(first.shape) < 0.5, first, second)


def _steps(radix: int) -> npt.NDArray[np.int64]:
    """Return the steps from an option to others: to all, or by powers of two in either direction."""
    if radix <= _ALL_STEPS:
        return np.arange(1, radix)
    powers = 2 ** np.arange(radix.bit_length() - 1)
    return np.unique(np.concatenate([powers, radix - powers]))
