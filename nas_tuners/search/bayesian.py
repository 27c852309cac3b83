"""Propose architectures of the highest expected improvement under a Gaussian process (Jones et al., 1998).

Differs: architectures are compared key by key, in a sum and in a product over the keys, each with weights that the
results decide; these are drawn anew about their most likely values for each proposal, as one model is surer of itself
than the results make it; expected improvement is maximized over steps from the best, mutants and crossovers of the ten
best and random draws, and then climbed from the two that promise most; pending trials count at their expected score.
With several objectives it is the expected improvement of the hypervolume, each objective with a model of its own unless
the cost table has it. Outcome constraints have models, too (Schonlau et al., 1998).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from nas_tuners.search.arguments import Shared
from nas_tuners.search.earlier import Earlier
from nas_tuners.search.model.acquisition import Acquisition, Value, improve_front, improve_score, keep_limits
from nas_tuners.search.model.candidates import Candidates
from nas_tuners.search.model.distances import Distances, FloatArray, IntArray
from nas_tuners.search.model.fronts import crowd, rank_fronts
from nas_tuners.search.model.improvement import normalize
from nas_tuners.search.model.surrogate import Data, Known, Prediction, Surrogate
from nas_tuners.search.multiobjective import MultiObjective
from nas_tuners.search.records import Trial
from search_spaces import Space, Tokens
from search_spaces.checks import whole

_MOST = 300  # results that the model is made of: its cost grows with their cube
_MOST_EARLIER = 150  # results of earlier runs
_LEAST = 4  # results of an earlier run, for it to say anything
_DRAWS = 100  # random candidates
_STARTS, _CLIMB = 2, 10  # candidates to climb from, and steps at most


class Bayesian(MultiObjective):
    """Bayesian optimization: fits a Gaussian process to all results, and proposes where it expects most improvement.

    Args:
        initial: architectures that are drawn at random before it chooses any; a quarter of them after a warm start.
        warm_start: results of earlier runs, from ``earlier_results``, also of a space that has changed: what fits is
            believed as far as this run's own results agree with it. Not with several objectives.
        objectives: by the name of a metric that trials report, or that the cost table has, ``maximize`` or
            ``minimize``: the hypervolume of the front is improved. A result without one of them is a failure.
        shared: the arguments of every :class:`~nas_tuners.search.Search`.

    Raises:
        ValueError: ``initial`` is no whole number from 2 up, ``warm_start`` holds something else, or is given with
            several objectives.
    """

    warm_up_option = "initial"

    def __init__(
        self,
        initial: int = 16,
        warm_start: Sequence[Earlier | Mapping[str, Any]] | None = None,
        objectives: Mapping[str, str] | None = None,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(objectives, **shared)
        self._complain(whole("initial", initial, 2))
        self._complain(
            ["warm_start is for one objective: leave it out, or objectives"] * bool(warm_start and objectives)
        )
        self._earlier = [Earlier.read(given) for given in warm_start or ()]
        self.initial = self.warm_up = int(initial)
        self._taught: dict[int, Trial] = {}

    def setup(self, space: Space, optimize_mode: str = "maximize") -> None:
        """Take the space to search."""
        super().setup(space, optimize_mode)
        self._candidates, distances = Candidates(space, self.rng), Distances(space)
        names = [self.score_key] if self.objectives is None else self.objectives.names
        known = self.objectives is not None and self.objectives.known
        self._surrogates = [None if known and name in known else Surrogate(distances) for name in names]
        self._limited = [Surrogate(distances) for _ in self.outcomes.limits]
        fitting = [earlier.translate(space) for earlier in self._earlier]
        self._before = [given for given in fitting if len(given[0]) >= _LEAST]
        if self._before:
            self.warm_up = max(self.initial // 4, 2)

    def _teach(self, trial: Trial, score: float) -> None:
        if not trial.provisional and (trial.resource is None or self.objectives is None):
            self._taught.pop(trial.uid, None)  # a result after a failure
            self._taught[trial.uid] = trial
        super()._teach(trial, score)

    def _learn(self, tokens: Tokens, score: float) -> None:
        """Learn from all trials at once, when the next is asked for."""

    def _propose(self, n: int) -> IntArray:
        slot = self.counts.asked + self._remaining.found
        if slot < self.warm_up or len(self._taught) < 2 or not len(self._candidates.free):
            return self._sample(min(n, max(self.warm_up - slot, 1)))
        data = self._data()
        for surrogate, own in zip(self._surrogates, data, strict=True):
            if surrogate is not None:
                surrogate.refit(own, len(self._taught))
        keeps = self._keep_limits()
        data = self._believe(data, np.array([trial.tokens for trial in self.pending], dtype=np.int64))
        chosen: list[IntArray] = []
        for _ in range(n):
            row = self._choose(self._acquire(data, keeps), {tuple(row.tolist()) for row in chosen})
            if row is None:
                break
            chosen.append(row)
            data = self._believe(data, row[None])
        return np.array(chosen) if chosen else self._sample(n)

    def _data(self) -> list[Data]:
        """Return the results by objective; of a single one, those of earlier runs too."""
        trials = list(self._taught.values())
        rows = np.array([trial.tokens for trial in trials], dtype=np.int64)
        counts = np.array([trial.violation == 0 for trial in trials])
        if self.objectives is not None:
            values = np.array([self._values(trial) for trial in trials])
            kept = _keep_fronts(values)
            return [Data.of(rows[kept], normalize(column)[kept], counts[kept]) for column in values.T]
        scores = normalize(self._expected_scores(trials))
        kept = _keep_best(scores, _MOST)
        data = Data.of(rows[kept], scores[kept], counts[kept])
        each = max(_MOST_EARLIER // max(len(self._before), 1), _LEAST)
        for run, (before, told) in enumerate(self._before, 1):
            scores = normalize(told)
            kept = _keep_best(scores, each)
            data += Data.of(before[kept], scores[kept], True, run)
        return [data]

    def _values(self, trial: Trial) -> tuple[float, ...]:
        """Return what a result is worth in each objective; the least for a failure."""
        if trial.state != "told":
            return (-math.inf,) * len(self._surrogates)
        return self._worth(trial.tokens, trial.metrics or {})

    def _expected_scores(self, trials: Sequence[Trial]) -> FloatArray:
        """Return the scores, of stopped trials those that they would have reached."""
        told = {trial.uid: trial.score for trial in trials if trial.state == "told"}
        return np.array(
            [t.score if t.resource is None else self.curves.expect(t.score, t.resource, told) for t in trials]
        )

    def _keep_limits(self) -> Value:
        """Return the chance to keep the outcome constraints, by a model of each limited metric."""
        told = [trial for trial in self._taught.values() if trial.state == "told"][-_MOST:]
        rows = np.array([trial.tokens for trial in told], dtype=np.int64)
        models, ends = [], []
        for limit, surrogate in zip(self.outcomes.limits, self._limited, strict=True):
            if len(told) < 2:
                continue
            values = np.array([float((trial.metrics or {})[limit.metric]) for trial in told])
            both = [limit.low, limit.high]
            if values.min() > 0 and max(0.0, both[0]) < both[1]:  # latencies and memory differ by factors
                values, both = np.log(values), [math.log(end) if end > 0 else -math.inf for end in both]
            middle, scale = values.mean(), values.std() or 1.0
            data = Data.of(rows, (values - middle) / scale)
            surrogate.refit(data, len(told))
            models.append(surrogate.draw(data, self.rng))
            ends.append(((both[0] - middle) / scale, (both[1] - middle) / scale))
        return keep_limits(models, ends) if models else lambda rows: np.zeros(len(rows))

    def _believe(self, data: list[Data], rows: IntArray) -> list[Data]:
        """Add architectures without results, at their posterior means."""
        if not len(rows):
            return data
        counts = not self.outcomes.limits
        return [
            own + Data.of(rows, np.zeros(len(rows)), counts)  # what the cost table has needs no value
            if surrogate is None
            else surrogate.believe(own, rows, counts)
            for own, surrogate in zip(data, self._surrogates, strict=True)
        ]

    def _acquire(self, data: list[Data], keeps: Value) -> Acquisition:
        """Return what the next proposal is chosen by."""
        models = [self._predict(at, own) for at, own in enumerate(data)]
        if len(models) == 1:
            return improve_score(models[0], data[0], keeps)
        return improve_front(models, data[0], keeps, self.rng)

    def _predict(self, at: int, data: Data) -> Prediction:
        """Return a model of an objective."""
        surrogate, objectives = self._surrogates[at], self.objectives
        if surrogate is not None:
            return surrogate.draw(data, self.rng)
        assert objectives is not None and objectives.table is not None
        return Known(objectives.table, objectives.names[at], float(objectives.signs[at]), data.rows)

    def _choose(self, acquisition: Acquisition, taken: set[Tokens]) -> IntArray | None:
        """Return the new architecture that promises most; None if no candidate is new."""
        value_of, elite = acquisition.value, acquisition.elite
        candidates = self._new(
            np.concatenate(
                [
                    elite,
                    self._candidates.neighbours(acquisition.centre),
                    self._candidates.mutants(elite),
                    self._candidates.crossovers(elite),
                    self._sample(_DRAWS),
                ]
            ),
            taken,
        )
        if not len(candidates):
            return None
        values = value_of(candidates)
        found, most = candidates[values.argmax()], float(values.max())
        for start in np.argsort(-values, kind="stable")[:_STARTS]:
            row, value = candidates[start], float(values[start])
            for _ in range(_CLIMB):
                near = self._new(self._candidates.neighbours(row), taken)
                if not len(near) or (risen := value_of(near)).max() <= value:
                    break
                row, value = near[risen.argmax()], float(risen.max())
            if value > most:
                found, most = row, value
        return np.asarray(found)

    def _new(self, rows: IntArray, taken: set[Tokens]) -> IntArray:
        """Return those that may be proposed, in canonical form, each once."""
        rows = np.unique(self.space.canonical(rows), axis=0)
        known = self._remaining.known
        rows = rows[[row not in known and row not in taken for row in map(tuple, rows.tolist())]]
        return rows[self._remaining.feasible.mask(rows)] if len(rows) else rows


def _keep_best(scores: FloatArray, most: int) -> IntArray:
    """Return which results a model is made of: of too many, the best half and the latest of the rest."""
    return _keep(np.argsort(-scores, kind="stable"), most)


def _keep_fronts(values: FloatArray) -> IntArray:
    """Return the same for several objectives."""
    if len(values) <= _MOST:
        return np.arange(len(values))
    ranks = rank_fronts(values)
    return _keep(np.lexsort((-crowd(values, ranks), ranks)), _MOST)


def _keep(order: IntArray, most: int) -> IntArray:
    if len(order) <= most:
        return np.arange(len(order))
    best, others = order[: most // 2], np.sort(order[most // 2 :])
    return np.sort(np.concatenate([best, others[-(most - len(best)) :]]))
