"""Climb one key at a time, with restarts: local search (White et al., UAI 2021, arXiv:2004.08996).

Differs: takes the first neighbour that is better, not the best of all; proposes nothing twice; asks that come before
results get further neighbours; within limits, steps of two keys follow those of one; where a whole neighbourhood is
known, begins at a random architecture, and climbs on from a late result that is better than what it began with.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Unpack

from nas_tuners.search.arguments import Shared
from nas_tuners.search.base import Search
from nas_tuners.search.outcomes import rank_violation
from search_spaces import Space, Tokens
from search_spaces.checks import whole

_EXCHANGES = 64  # steps of two keys that are drawn, where there are limits
_MOST = 4096  # neighbours that are listed; of more, some are drawn


class LocalSearch(Search):
    """Local search: moves to the first neighbour that is better, and begins anew at the top of a hill.

    Args:
        initial: architectures that are drawn at random; it climbs from the best of them.
        shared: the arguments of every :class:`~nas_tuners.search.Search`.

    Raises:
        ValueError: ``initial`` is no whole number from 1 up.
    """

    warm_up_option = "initial"

    def __init__(
        self,
        initial: int = 10,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        self._complain(whole("initial", initial, 1))
        self.initial = self.warm_up = int(initial)
        self._top: tuple[Tokens, float] | None = None  # of the hill that is climbed
        self._ring: list[Tokens] = []  # its neighbours that are left, in the order in which they come
        self._began = 0  # number of architectures that were asked for before this hill

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        slot = self.counts.asked + self._remaining.found - self._began
        if self._top is None or slot < self._start_size:
            return self._sample(min(n, max(self._start_size - slot, 1)))
        ring: list[Tokens] = []
        while self._ring and len(ring) < n:
            if not self.known(tokens := self._ring.pop()):
                ring.append(tokens)
        if ring:
            return ring
        self._top, self._began = None, self.counts.asked + self._remaining.found
        return self._sample(n)

    @property
    def _start_size(self) -> int:
        """Return how many random architectures a climb begins with: several at first, then one."""
        return self.initial if self._began == 0 else 1

    def _learn(self, tokens: Tokens, score: float) -> None:
        if score == -math.inf or (self._top is not None and score <= self._top[1]):
            return
        self._top = tokens, score
        self._ring = self._neighbours(tokens)

    def _learn_again(self, tokens: Tokens, mean: float) -> None:
        if self._top is not None and self._top[0] == tokens:
            self._top = tokens, mean

    def _learn_infeasible(self, tokens: Tokens, score: float, violation: float) -> None:
        self._learn(tokens, rank_violation(violation))

    def _neighbours(self, tokens: Tokens) -> list[Tokens]:
        """Return the feasible architectures that differ in one key, shuffled."""
        if sum(self.space.radices) > _MOST:
            drawn = self.space.neighbours(tokens, self.rng, _MOST)
            ring = list(dict.fromkeys(map(tuple, drawn.tolist())))
        else:
            steps = map(self.space.canonical, one_key_apart(self.space, tokens))
            ring = [other for other in dict.fromkeys(steps) if other != tokens]
        ring = [other for other in ring if self.feasible(other)]
        ring = [ring[i] for i in self.rng.permutation(len(ring)).tolist()]
        return self._exchanges(tokens) + ring if self.constraints else ring  # the last come first

    def _exchanges(self, tokens: Tokens) -> list[Tokens]:
        """Return some that differ in two keys and are feasible: at a limit, most good steps are exchanges."""
        drawn = [self.space.neighbour(tokens, self.rng, 2) for _ in range(_EXCHANGES)]
        return [other for other in dict.fromkeys(drawn) if other != tokens and self.feasible(other)]


def one_key_apart(space: Space, tokens: Tokens) -> Iterable[Tokens]:
    """Yield every architecture that differs in one key."""
    for at, radix in enumerate(space.radices):
        for other in range(radix):
            if other != tokens[at]:
                yield (*tokens[:at], other, *tokens[at + 1 :])
