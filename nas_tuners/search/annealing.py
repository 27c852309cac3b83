"""Simulated annealing (Kirkpatrick et al., Science 1983) on discrete choices, as PaddleSlim's SANAS uses it.

Differs: accepts by comparing with T * log(u), so a temperature that underflows to zero simply never accepts a drop; a
mutation never re-draws the old value; the first proposal is evaluated itself; it begins as hot as the first results
differ, unless it is told otherwise; where every neighbour is known it heats up again, and walks over what is known, at
no cost, to where something is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Self, Unpack

import numpy as np

from nas_tuners.search.arguments import Shared
from nas_tuners.search.base import Search
from nas_tuners.search.local_search import one_key_apart
from search_spaces import Choices, Space, Tokens
from search_spaces.checks import above
from search_spaces.errors import ConstraintError

SPREAD = "spread"
"""Of the first results: their standard deviation is the first temperature."""
_RING_LIMIT = 4096  # a larger neighbourhood is never enumerated: it is not exhausted either
_MISSES = 8  # known architectures in a row, before the step grows longer
_FIRST = 8  # results whose spread is the first temperature
_WALK = 256  # known architectures that it walks over at most, before it steps further


class Annealing(Search):
    """Simulated annealing: steps away from the incumbent, to something worse with probability exp(-drop / temperature).

    Args:
        init_temperature: in units of the metric: at 0.02, losing two points of accuracy is accepted with probability
            1/e. ``spread``: the standard deviation of the first eight results, of random architectures unless there are
            ``init_choices``; it goes on from the best of them. None, as SANAS documents: 10.0, or 1.0 with
            ``init_choices``.
        reduce_rate: what each result multiplies the temperature by, in (0, 1].
        init_choices: the architecture to begin with, as ``Space.decode`` gives it; it is evaluated first.
        shared: the arguments of every :class:`~nas_tuners.search.Search`.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        init_temperature: float | str | None = SPREAD,
        reduce_rate: float = 0.85,
        init_choices: Choices | None = None,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        if init_temperature is None:
            init_temperature = 10.0 if init_choices is None else 1.0
        problems = [] if init_temperature == SPREAD else above("init_temperature", init_temperature, 0)
        self._complain(problems + above("reduce_rate", reduce_rate, 0, 1))
        self.init_temperature = init_temperature if init_temperature == SPREAD else float(init_temperature)
        self.reduce_rate = float(reduce_rate)
        self._init_choices = init_choices
        self._start: Tokens | None = None
        self._incumbent: tuple[Tokens, float] | None = None
        self._results = 0
        self._heated = 0  # number of results when it was hottest
        self._scores: dict[Tokens, float] = {}  # of what has a result
        self._step_from(None)

    def setup(self, space: Space, optimize_mode: str = "maximize") -> None:
        """Take the space to search, and check ``init_choices`` against it and against the constraints."""
        if self._init_choices is not None:
            self._start = space.encode(self._init_choices)
        super().setup(space, optimize_mode)
        if self._start is not None and not self.feasible(self._start):
            raise ConstraintError(f"init_choices do not keep {', '.join(map(str, self.constraints))}.")
        self._step_from(self._start)

    def fresh(self) -> Self:
        """Return a search with the same arguments that has seen nothing; the first choices were the old space's."""
        kept = {"init_temperature": self.init_temperature, "init_choices": None}
        return type(self)(**{**self.arguments, **kept})

    @property
    def temperature(self) -> float:
        """The first temperature, times ``reduce_rate`` for each result since; 0 while the spread is not known."""
        if isinstance(self.init_temperature, float):
            return self.init_temperature * self.reduce_rate ** (self._results - self._heated)
        if len(self._scores) < _FIRST:
            return 0.0
        return self._spread * self.reduce_rate ** (self._results - max(self._heated, _FIRST))

    @property
    def _spread(self) -> float:
        """The standard deviation of the first results."""
        return float(np.std(list(self._scores.values())[:_FIRST]))

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        if self._start is not None and not self.known(self._start):
            return [self._start, *(self._step(self._start) for _ in range(n))]
        first = self.init_temperature == SPREAD and self._start is None and len(self._scores) < _FIRST
        if self._centre is None or first:
            return self._sample(n)
        return [self._step(self._centre) for _ in range(n)]

    def _learn(self, tokens: Tokens, score: float) -> None:
        taken = self._accepts(score)
        self._results += 1
        if score == -math.inf:
            return
        self._scores[tokens] = score
        if taken:
            self._incumbent = (tokens, score)
            self._step_from(tokens)

    def _accepts(self, score: float) -> bool:
        """Draw whether to move to an architecture of this score: Metropolis, without a division."""
        slack = self.temperature * math.log(1.0 - self.rng.random())  # <= 0
        return self._incumbent is None or score - self._incumbent[1] >= slack

    def _learn_again(self, tokens: Tokens, mean: float) -> None:
        self._scores[tokens] = mean
        if self._incumbent is not None and self._incumbent[0] == tokens:
            self._incumbent = (tokens, mean)

    def _learn_stopped(self, tokens: Tokens, score: float, resource: int) -> None:
        """Cool down as after a step that was not taken, like a failure."""
        self._learn(tokens, -math.inf)

    def _step_from(self, centre: Tokens | None) -> None:
        """Step from ``centre`` from now on, at first to its direct neighbours."""
        self._centre = centre
        self._ring: list[Tokens] | None = None
        self._radius = 1
        self._missed = 0

    def _step(self, centre: Tokens) -> Tokens:
        tokens = self.space.neighbour(centre, self.rng, self._radius)
        if self._radius == 1:
            if self._is_open(tokens) or sum(self.space.radices) > _RING_LIMIT:
                return tokens  # the base asks again if it is known
            return self._unknown_neighbour(centre) or self._walk() or tokens
        self._missed = 0 if self._is_open(tokens) else self._missed + 1
        if self._missed == _MISSES and self._radius < len(self.space):
            self._radius, self._missed = self._radius + 1, 0
        return tokens

    def _walk(self) -> Tokens | None:
        """Heat up, and walk over what is known until something is met that is not; without that, lengthen the step."""
        self._heated = self._results
        for _ in range(_WALK if self._incumbent else 0):
            assert self._incumbent is not None
            tokens = self.space.neighbour(self._incumbent[0], self.rng)
            if self._is_open(tokens):
                return tokens
            if tokens in self._scores and self._accepts(self._scores[tokens]):
                self._incumbent = (tokens, self._scores[tokens])
                self._step_from(tokens)
        self._radius = 2
        return None

    def _is_open(self, tokens: Tokens) -> bool:
        return not self.known(tokens) and self.feasible(tokens)

    def _unknown_neighbour(self, centre: Tokens) -> Tokens | None:
        """Return one of the neighbours that are left; None without any."""
        if self._ring is None:
            steps = map(self.space.canonical, one_key_apart(self.space, centre))
            ring = [tokens for tokens in dict.fromkeys(steps) if self._is_open(tokens)]
            self._ring = [ring[i] for i in self.rng.permutation(len(ring)).tolist()]
        while self._ring:
            if not self.known(tokens := self._ring.pop()):
                return tokens
        return None
