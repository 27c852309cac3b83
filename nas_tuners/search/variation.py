"""Mutate architectures, only in keys that matter where not all do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from search_spaces import Space

Rows = npt.NDArray[np.int64]


class Variation:
    """Mutate the architectures of a space.

    Args:
        space: whose architectures are changed.
        rng: of the search.
    """

    def __init__(self, space: Space, rng: np.random.Generator) -> None:
        self._space, self._rng = space, rng
        self._radices = np.array(space.radices, dtype=np.int64)
        self._free = np.flatnonzero(self._radices > 1)

    @property
    def keys(self) -> int:
        """Return how many keys have several options."""
        return len(self._free)

    def mutate(self, rows: Rows, times: int, chance: float) -> Rows:
        """Give each row another value in some of its keys: in up to ``times`` sure ones, and in any by ``chance``.

        Args:
            rows: (n, keys) tokens; changed in place. Keys that do not matter are drawn before, by ``Space.fill``.

        Returns: the same array.
        """
        if not len(self._free):
            return rows
        change = self._rng.random(rows.shape, dtype=np.float32) < chance
        sure = self._pick_keys(rows, times)
        if times > 1:  # the nearest are not left out
            counts = self._rng.integers(1, times + 1, size=len(rows))
            sure = np.where(np.arange(times) < counts[:, None], sure, sure[:, :1])
        np.put_along_axis(change, sure, True, axis=1)
        row, key = np.nonzero(change & (self._radices > 1))
        radix = self._radices[key]
        rows[row, key] = (rows[row, key] + self._rng.integers(1, radix)) % radix
        return rows

    def _pick_keys(self, rows: Rows, times: int) -> Rows:
        """Pick keys with several options that matter. Returns: (n, times), positions that may repeat."""
        conditions = self._space.conditions
        if conditions is None:
            return np.asarray(self._free[self._rng.integers(len(self._free), size=(len(rows), times))])
        can = conditions.active(rows) & (self._radices > 1)
        ways = can.sum(axis=1, keepdims=True)  # none: then any key, which changes nothing
        wanted = self._rng.integers(0, np.maximum(ways, 1), size=(len(rows), times))
        return np.asarray((can.cumsum(axis=1)[:, None, :] <= wanted[..., None]).sum(axis=2) % rows.shape[1])
