"""Encodings of architectures, as tuples or arrays of ints: which are the same one, how many there are, and draws.

Differs from a plain product of the keys' options: keys that do not matter are 0 in whatever this returns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import overload

import numpy as np
import numpy.typing as npt

from search_spaces.conditions import Conditions
from search_spaces.counting import EntangledError
from search_spaces.errors import SpaceError

Tokens = tuple[int, ...]
"""An architecture: one int a key, each in ``range(radix)``, in the order of the space's keys."""

TokenArray = npt.NDArray[np.int64]


class Encodings:
    """The encodings of a space.

    Args:
        radices: the number of options of each key.
        conditions: under which keys matter; None: all always do.
    """

    def __init__(self, radices: Tokens, conditions: Conditions | None) -> None:
        self.radices, self.conditions = radices, conditions
        self._bounds = np.array(radices, dtype=np.int64)
        self._free = np.flatnonzero(self._bounds > 1)

    @cached_property
    def size(self) -> int:
        """Return the number of architectures.

        Raises:
            SpaceError: so many conditions hang together that it cannot be counted.
        """
        if self.conditions is None:
            return math.prod(self.radices)
        try:
            return self.conditions.size
        except EntangledError:
            raise SpaceError(
                f"the conditions (_when) of {len(self.conditions.positions)} keys hang together so much that the "
                "architectures cannot be counted: let fewer keys stand in several conditions, or leave some out."
            ) from None

    def active(self, rows: TokenArray) -> npt.NDArray[np.bool_]:
        """Return which keys of architectures matter. (n, keys) tokens to (n, keys)."""
        return np.ones(rows.shape, dtype=np.bool_) if self.conditions is None else self.conditions.active(rows)

    @overload
    def canonical(self, encoding: TokenArray) -> TokenArray: ...
    @overload
    def canonical(self, encoding: Sequence[int]) -> Tokens: ...
    def canonical(self, encoding: Sequence[int] | TokenArray) -> Tokens | TokenArray:
        """Return the encoding of the same architecture in which keys that do not matter are 0.

        Args:
            encoding: the tokens of one architecture, or an array of many, (n, keys).

        Returns: the same of it.
        """
        if isinstance(encoding, np.ndarray) and encoding.ndim == 2:
            return encoding if self.conditions is None else encoding * self.conditions.active(encoding)
        tokens = tuple(encoding)
        if self.conditions is None:
            return tokens
        return tuple(token if on else 0 for token, on in zip(tokens, self.conditions.active_in(tokens), strict=True))

    def sample(self, rng: np.random.Generator) -> Tokens:
        """Draw one architecture, uniformly."""
        return tuple(self.sample_tokens(rng, 1)[0].tolist())

    def sample_tokens(self, rng: np.random.Generator, n: int) -> TokenArray:
        """Draw ``n`` architectures, uniformly and independently. Returns: (n, keys)."""
        if self.conditions is not None:
            return self.conditions.draw(rng, n)
        return rng.integers(0, self._bounds, size=(n, len(self)))

    def every(self) -> TokenArray:
        """Return all architectures; only for a small ``size``. Returns: (size, keys)."""
        if self.conditions is not None:
            return self.conditions.every()
        return np.indices(self.radices).reshape(len(self), -1).T

    def neighbour(self, tokens: Sequence[int], rng: np.random.Generator, steps: int = 1) -> Tokens:
        """Draw one key anew among its *other* options, ``steps`` times. A space of one architecture gives that one.

        Keys that matter only then are drawn as well.
        """
        if self.conditions is not None:
            rows = self.fill(np.array([tokens], dtype=np.int64), rng)
            for _ in range(steps):
                rows = self._step(rows, rng)
            return tuple(self.canonical(rows)[0].tolist())
        drawn = [int(token) for token in tokens]
        if len(self._free):
            free, shifts = rng.integers(len(self._free), size=steps).tolist(), rng.random(steps).tolist()
            for at, shift in zip(self._free[free].tolist(), shifts, strict=True):
                radix = self.radices[at]
                drawn[at] = (drawn[at] + 1 + int(shift * (radix - 1))) % radix
        return tuple(drawn)

    def neighbours(self, tokens: Sequence[int], rng: np.random.Generator, n: int) -> TokenArray:
        """Draw ``n`` neighbours of one architecture, independently: each differs in one key. Returns: (n, keys).

        Keys that matter only then are drawn as well.
        """
        drawn = np.tile(np.asarray(tokens, dtype=np.int64), (n, 1))
        if self.conditions is not None:
            return self.canonical(self._step(self.fill(drawn, rng), rng))
        if len(self._free):
            at = self._free[rng.integers(0, len(self._free), size=n)]
            rows, radix = np.arange(n), self._bounds[at]
            drawn[rows, at] = (drawn[rows, at] + rng.integers(1, radix)) % radix
        return drawn

    def fill(self, rows: TokenArray, rng: np.random.Generator) -> TokenArray:
        """Draw the keys that do not matter, so that one has a value which a step makes matter. Returns: (n, keys)."""
        if self.conditions is None:
            return rows
        return np.where(self.conditions.active(rows), rows, rng.integers(0, self._bounds, size=rows.shape))

    def _step(self, rows: TokenArray, rng: np.random.Generator) -> TokenArray:
        """Draw in each row one of the keys that matter anew, in place."""
        assert self.conditions is not None
        can = self.conditions.active(rows) & (self._bounds > 1)
        at = np.where(can, rng.random(rows.shape), -1.0).argmax(axis=1)
        moved = np.flatnonzero(can.any(axis=1))
        at = at[moved]
        rows[moved, at] = (rows[moved, at] + rng.integers(1, self._bounds[at])) % self._bounds[at]
        return rows

    def __len__(self) -> int:
        return len(self.radices)
