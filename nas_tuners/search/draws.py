"""What a search may still propose, and getting that out of its algorithm: nothing twice, nothing infeasible."""

from __future__ import annotations

import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nas_tuners.search.constraints import Feasible, Limit
from nas_tuners.search.records import Counts
from search_spaces import Space, Tokens
from search_spaces.cost.table import CostTable

_log = logging.getLogger(__name__)
_BATCH = 16  # rows of an array that are worth checking as an array
_PATIENCE = 16  # proposals of an algorithm that are all known, before the base draws an unknown one itself
_LAST_DRAWS = 20  # samples in vain, before what is left of a space too large to list is given up


class SearchError(RuntimeError):
    """An algorithm failed, or proposed something outside of its space."""


class Draws(ABC):
    """The half of a :class:`~nas_tuners.search.Search` that draws: its space, what is known there, and what is left."""

    space: Space
    budget: int | None = None
    """How many architectures may be asked for; None: as many as there are."""

    def __init__(self, seed: int, constraints: tuple[Limit, ...], cost_table: CostTable | None) -> None:
        self.seed, self.constraints, self.cost_table = seed, constraints, cost_table
        self.rng = np.random.default_rng(seed)
        self.counts = Counts()
        self._known: set[Tokens] = set()
        self._unknown: list[Tokens] | None = None
        self._feasible: Feasible | None = None
        self._count: int | float = 0  # of feasible architectures
        self._found = 0  # of the ask under way, how many architectures there are already
        self._repeated = 0.0  # of its last round, which part of the feasible proposals was known before

    def _enter(self, space: Space) -> None:
        """Take the space, and count what is feasible there."""
        self._count = space.size
        if self.constraints and self.cost_table is not None:
            self._feasible = Feasible(space, self.cost_table, self.constraints)
            self._count = self._feasible.count
            _log.info("%s: %s.", type(self).__name__, self._feasible)
        self.space = space

    @property
    def exhausted(self) -> bool:
        """Whether every architecture of the space that keeps the constraints has been proposed."""
        return len(self._known) >= self._count

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to ask for: the space is exhausted, or the budget spent."""
        return self._left() <= 0

    @property
    def feasible_share(self) -> float:
        """Which part of all architectures keeps the constraints, from the set-up on."""
        return 1.0 if self._feasible is None else self._feasible.share

    @property
    def feasible_share_exact(self) -> bool:
        """Whether :attr:`feasible_share` is counted, not estimated."""
        return self._feasible is None or self._feasible.exact

    def feasible(self, tokens: Tokens) -> bool:
        """Whether an architecture keeps the constraints."""
        return self._feasible is None or self._feasible.holds(tokens)

    def known(self, tokens: Tokens) -> bool:
        """Whether an architecture was proposed before."""
        return tokens in self._known

    @abstractmethod
    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        """Return about ``n`` architectures, (n, keys), as an array where that is at hand.

        The base drops those that are known or infeasible and asks again, or helps out.
        """

    def _sample(self, n: int) -> npt.NDArray[np.int64]:
        """Draw ``n`` feasible architectures, uniformly, known ones too. Returns: (n, keys)."""
        if self._feasible is None:
            return self.space.sample_tokens(self.rng, n)
        return self._feasible.sample(self.rng, n)

    def _mask(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of (n, keys) architectures are feasible. Returns: (n,)."""
        return np.ones(len(rows), dtype=np.bool_) if self._feasible is None else self._feasible.mask(rows)

    def _left(self) -> int | float:
        """How many more architectures can be asked for."""
        left = self._count - len(self._known)
        return left if self.budget is None else min(left, self.budget - self.counts.asked)

    def _draw(self, n: int) -> list[Tokens]:
        """``n`` unknown architectures, as far as there are so many."""
        if not hasattr(self, "space"):
            raise RuntimeError("this search has no space yet: call setup(space) first.")
        wanted = int(min(n, self._left()))
        found: dict[Tokens, None] = {}
        self._found, self._repeated = 0, 0.0
        for _ in range(_PATIENCE):
            if len(found) >= wanted:
                return list(found)
            proposed = self._proposed(wanted - len(found))
            for tokens in proposed:
                if tokens not in self._known and len(found) < wanted:
                    found[tokens] = None
            self._repeated = 1 - (len(found) - self._found) / len(proposed) if proposed else 0.0
            self._found = len(found)
        vain = 0
        while len(found) < wanted and vain < _LAST_DRAWS:
            unknown = self._draw_unknown(found, wanted - len(found))
            found.update(dict.fromkeys(unknown))
            vain = 0 if unknown else vain + 1
        if len(found) < wanted:
            _log.warning("%s: no unknown architecture was found: the space counts as exhausted.", type(self).__name__)
            self._count = len(self._known) + len(found)
        return list(found)

    def _proposed(self, n: int) -> list[Tokens]:
        """What the algorithm proposes: checked, and without what is infeasible."""
        try:
            rows = self._propose(n)
            if isinstance(rows, np.ndarray) and len(rows) >= _BATCH:
                return self._checked(rows)
            listed = [tuple(row.tolist() if isinstance(row, np.ndarray) else row) for row in rows]
        except SearchError:
            raise
        except Exception as error:
            raise SearchError(f"{type(self).__name__}._propose({n}) failed: {error!r}") from error
        for tokens in listed:
            if not self._fits(tokens):
                raise self._misfit(tokens)
        if self._feasible is None:
            return listed
        kept = [tokens for tokens in listed if self._feasible.holds(tokens)]
        self.counts.infeasible += len(listed) - len(kept)
        return kept

    def _checked(self, rows: npt.NDArray[np.int64]) -> list[Tokens]:
        """The same for an array, all at once."""
        radices = np.array(self.space.radices)
        if rows.ndim != 2 or rows.shape[1] != len(radices) or rows.dtype.kind not in "iu":
            raise self._misfit(f"an array of {rows.dtype}, {rows.shape}")
        wrong = ((rows < 0) | (rows >= radices)).any(axis=1)
        if wrong.any():
            raise self._misfit(tuple(rows[wrong.argmax()].tolist()))
        if self._feasible is not None:
            kept = rows[self._feasible.mask(rows)]
            self.counts.infeasible += len(rows) - len(kept)
            rows = kept
        return list(map(tuple, rows.tolist()))

    def _misfit(self, got: object) -> SearchError:
        wanted = f"one token below each of {self.space.radices}"
        return SearchError(f"{type(self).__name__}._propose gave {got}, wanted {wanted}.")

    def _draw_unknown(self, taken: Mapping[Tokens, None], n: int) -> list[Tokens]:
        """Up to ``n`` unknown architectures, uniformly: by rejection while that is cheap, then from a list."""
        if self._unknown is None and (self._count > 2 * (len(self._known) + len(taken)) or not self._can_list()):
            rows = map(tuple, self._sample(2 * n + 8).tolist())
            return list(itertools.islice((t for t in rows if t not in self._known and t not in taken), n))
        if self._unknown is None:
            unknown = [tokens for tokens in self._every() if tokens not in self._known]
            self._unknown = [unknown[i] for i in self.rng.permutation(len(unknown)).tolist()]
        drawn: list[Tokens] = []
        while len(drawn) < n and self._unknown:
            tokens = self._unknown.pop()
            if tokens not in self._known and tokens not in taken:
                drawn.append(tokens)
        return drawn

    def _can_list(self) -> bool:
        return self._feasible is None or self._feasible.every() is not None

    def _every(self) -> Iterable[Tokens]:
        """All feasible architectures of a space that is nearly exhausted."""
        listed = None if self._feasible is None else self._feasible.every()
        return itertools.product(*map(range, self.space.radices)) if listed is None else map(tuple, listed.tolist())

    def _fits(self, tokens: Tokens) -> bool:
        radices = self.space.radices
        return len(tokens) == len(radices) and all(0 <= t < r for t, r in zip(tokens, radices, strict=True))
