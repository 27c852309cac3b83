"""Search several objectives by NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 2002).

Differs: steady, each result counts at once and competes with the survivors of all before; nothing is proposed twice; a
mutation always changes something; children beyond the limits are mutated anew, and then dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Unpack

import numpy as np

from nas_tuners.search.arguments import Shared
from nas_tuners.search.model.fronts import crowd, rank_fronts
from nas_tuners.search.multiobjective import MultiObjective
from nas_tuners.search.records import Trial
from nas_tuners.search.variation import Rows, Variation
from search_spaces import Space, Tokens
from search_spaces.checks import between, whole

_SPARE = 8  # children made for one that is asked for, since some of them are known already
_REPAIRS = 3
_SURVIVORS = 8  # populations: who is crowded out today may be apart tomorrow


class NSGA2(MultiObjective):
    """NSGA-II: evolves the front of several objectives, such as accuracy and latency, in one search.

    Args:
        objectives: by the name of a metric that trials report, or that the cost table has, ``maximize`` or
            ``minimize``. A result without one of them is a failure. :attr:`best` is by ``score_key`` alone.
        population_size: architectures drawn at random to begin with, and parents.
        crossover_prob: the chance that a child has two parents.
        mutate_prob: the chance of each key to change; None: one key in all, on average.
        shared: the arguments of every :class:`~nas_tuners.search.Search`.

    Raises:
        ValueError: an argument is out of its range.
    """

    warm_up_option = "population_size"

    def __init__(
        self,
        objectives: Mapping[str, str] | None = None,
        population_size: int = 20,
        crossover_prob: float = 0.9,
        mutate_prob: float | None = None,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(objectives, **shared)
        problems = whole("population_size", population_size, 2) + between("crossover_prob", crossover_prob, 0, 1)
        self._complain(problems + ([] if mutate_prob is None else between("mutate_prob", mutate_prob, 0, 1)))
        self.population_size = self.warm_up = int(population_size)
        self.crossover_prob, self.mutate_prob = float(crossover_prob), mutate_prob
        self._rows: list[Tokens] = []
        self._values: list[tuple[float, ...]] = []  # to be maximized
        self._violations: list[float] = []  # of the outcome constraints
        self._alive = np.zeros(0, dtype=np.int64)  # which of the results, the best first
        self._seen = 0  # number of results that these were chosen from

    def setup(self, space: Space, optimize_mode: str = "maximize") -> None:
        """Take the space to search. Raises ValueError if ``score_key`` is an objective in another mode."""
        super().setup(space, optimize_mode)
        self._variation = Variation(space, self.rng)

    def _learn(self, tokens: Tokens, score: float) -> None:
        """Learn nothing from the score alone: it is one of the objectives, or none."""

    def _teach(self, trial: Trial, score: float) -> None:
        if trial.resource is None and score > -math.inf and not trial.provisional:
            self._rows.append(trial.tokens)
            self._values.append(self._worth(trial.tokens, trial.metrics or {}))
            self._violations.append(trial.violation)
        super()._teach(trial, score)

    def _propose(self, n: int) -> Rows:
        slot = self.counts.asked + self._remaining.found
        if slot < self.population_size or not self._values or not self._variation.keys:
            return self._sample(min(n, max(self.population_size - slot, 1)))
        return self._children(max(n, _SPARE))

    def _population(self) -> Rows:
        """Return the parents, the best first: by violation, by front, by crowding distance. (population, keys)."""
        if self._seen < len(self._values):
            alive = np.concatenate([self._alive, np.arange(self._seen, len(self._values))])
            values = np.array([self._values[at] for at in alive.tolist()])
            violations = np.array([self._violations[at] for at in alive.tolist()])
            ranks = rank_fronts(values)
            order = np.lexsort((-crowd(values, ranks), ranks, violations))[: _SURVIVORS * self.population_size]
            self._alive, self._seen = alive[order], len(self._values)
        parents = self._alive[: self.population_size].tolist()
        return np.array([self._rows[at] for at in parents], dtype=np.int64)

    def _children(self, n: int) -> Rows:
        rows = self._population()
        better = self.rng.integers(len(rows), size=(2, n, 2)).min(axis=2)  # of two, twice
        first, second = (self.space.fill(rows[parents], self.rng) for parents in better)
        crossed = (self.rng.random(first.shape) < 0.5) & (self.rng.random((n, 1)) < self.crossover_prob)
        chance = 1 / self._variation.keys if self.mutate_prob is None else self.mutate_prob
        children = self._variation.mutate(np.where(crossed, second, first), 1, chance)
        for _ in range(_REPAIRS):
            wrong = np.flatnonzero(~self._remaining.feasible.mask(self.space.canonical(children)))
            if not len(wrong):
                break
            children[wrong] = self._variation.mutate(np.where(crossed, second, first)[wrong], 1, chance)
        return self.space.canonical(children)
