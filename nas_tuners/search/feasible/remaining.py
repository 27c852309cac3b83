"""The architectures that a search may still propose: feasible, and not known yet."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nas_tuners.search.feasible.constraints import Feasible
from search_spaces import Space, Tokens
from search_spaces.checks import is_int

_PATIENCE = 16  # rounds of proposals that are all known, before an unknown one is drawn instead
_LAST_DRAWS = 20  # samples in vain, before what is left of a space too large to list is given up
_BATCH = 16  # rows of an array that are worth checking as an array


class OutsideError(ValueError):
    """A proposal is not in the space."""


class Remaining:
    """The feasible architectures of a space that are not known yet."""

    def __init__(self, feasible: Feasible, space: Space) -> None:
        self.feasible = feasible
        self.known = set[Tokens]()  # those that were proposed
        self._space, self._radices = space, space.radices
        self.found = 0  # number of architectures that the draw under way has already
        self.repeated = 0.0  # the part of the proposals in its last round that were known before
        self._total = feasible.count
        self._unknown: list[Tokens] | None = None  # shuffled, once so few are left that they are listed

    @property
    def count(self) -> int:
        """The number of them; an upper bound where the feasible ones are not counted."""
        return self._total - len(self.known)

    def fits(self, tokens: Sequence[int]) -> bool:
        """Return whether these are tokens of the space, canonical or not."""
        whole = {int}.issuperset(map(type, tokens)) or all(map(is_int, tokens))  # the first of them is fast
        fit = whole and len(tokens) == len(self._radices) and all(map(operator.lt, tokens, self._radices))
        return fit and min(tokens, default=0) >= 0

    def read(self, rows: Iterable[Sequence[int]]) -> tuple[list[Tokens], int]:
        """Check proposals, and make them canonical. Returns: those that are feasible, known ones too, and how many not.

        Raises OutsideError if one is not in the space.
        """
        if isinstance(rows, np.ndarray) and len(rows) >= _BATCH:
            return self._read_array(rows)
        listed = [tuple(row.tolist() if isinstance(row, np.ndarray) else row) for row in rows]
        for tokens in listed:
            if not self.fits(tokens):
                raise self._outside(tokens)
        if self._space.conditions is not None:
            listed = list(map(self._space.canonical, listed))
        kept = [tokens for tokens in listed if self.feasible.holds(tokens)] if self.feasible.limits else listed
        return kept, len(listed) - len(kept)

    def _read_array(self, rows: npt.NDArray[np.int64]) -> tuple[list[Tokens], int]:
        """Check many proposals at once."""
        radices = np.array(self._radices)
        if rows.ndim != 2 or rows.shape[1] != len(radices) or rows.dtype.kind not in "iu":
            raise self._outside(f"an array of {rows.dtype}, {rows.shape}")
        wrong = ((rows < 0) | (rows >= radices)).any(axis=1)
        if wrong.any():
            raise self._outside(tuple(rows[wrong.argmax()].tolist()))
        rows = self._space.canonical(rows)
        kept = rows[self.feasible.mask(rows)] if self.feasible.limits else rows
        return list(map(tuple, kept.tolist())), len(rows) - len(kept)

    def _outside(self, got: object) -> OutsideError:
        return OutsideError(f"{got}, wanted one token below each of {self._radices}.")

    def draw(self, rng: np.random.Generator, n: int, propose: Callable[[int], Sequence[Tokens]]) -> list[Tokens]:
        """Draw ``n`` unknown architectures, at most :attr:`count`; fewer where no more are found, and then none remain.

        ``propose`` gives about so many feasible ones, known ones too. It is asked again where many are known; ``rng``
        helps out if that does not end.
        """
        drawn, known = dict[Tokens, None](), self.known
        self.found, self.repeated = 0, 0.0
        for _ in range(_PATIENCE):
            if len(drawn) >= n:
                return list(drawn)
            proposed = propose(n - len(drawn))
            for tokens in proposed:
                if tokens not in known and len(drawn) < n:
                    drawn[tokens] = None
            self.repeated = 1 - (len(drawn) - self.found) / len(proposed) if proposed else 0.0
            self.found = len(drawn)
        vain = 0
        while len(drawn) < n and vain < _LAST_DRAWS:
            unknown = self._draw_unknown(rng, n - len(drawn), drawn)
            drawn.update(dict.fromkeys(unknown))
            vain = 0 if unknown else vain + 1
        if len(drawn) < n:
            self._total = len(self.known) + len(drawn)
        return list(drawn)

    def _draw_unknown(self, rng: np.random.Generator, n: int, taken: Mapping[Tokens, None]) -> list[Tokens]:
        """Draw up to ``n`` that are not ``taken``, uniformly: by rejection while that is cheap, then from a list."""
        if self._unknown is None:
            if self._total > 2 * (len(self.known) + len(taken)) or not self.feasible.listable:
                rows = map(tuple, self.feasible.sample(rng, 2 * n + 8).tolist())
                return list(itertools.islice((t for t in rows if t not in self.known and t not in taken), n))
            unknown = [tokens for tokens in self.feasible.every() if tokens not in self.known]
            self._unknown = [unknown[i] for i in rng.permutation(len(unknown)).tolist()]
        drawn: list[Tokens] = []
        while len(drawn) < n and self._unknown:
            tokens = self._unknown.pop()
            if tokens not in self.known and tokens not in taken:
                drawn.append(tokens)
        return drawn
