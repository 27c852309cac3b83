"""Propose architectures of the highest expected improvement under a Gaussian process (Jones et al., 1998).

Differs: architectures are compared key by key, in a sum and in a product over the keys, each with weights that the
results decide; these are drawn anew about their most likely values for each proposal, as one model is surer of itself
than the results make it; expected improvement is maximized over steps from the best, mutants and crossovers of the ten
best and random draws, and then climbed from the two that promise most; pending trials count at their expected score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from nas_tuners.search.arguments import Shared
from nas_tuners.search.base import Search
from nas_tuners.search.distances import Distances, FloatArray, IntArray
from nas_tuners.search.earlier import Earlier
from nas_tuners.search.gaussian_process import GaussianProcess, Hyperparameters, fit
from nas_tuners.search.improvement import log_expected_improvement, normalize
from search_spaces import Space, Tokens
from search_spaces.checks import whole

_GROWTH = 1.1  # of the results, after which the hyperparameters are fitted again
_MOST = 300  # results that the model is made of: its cost grows with their cube
_MOST_EARLIER = 150  # results of earlier runs
_LEAST = 4  # results of an earlier run, for it to say anything
_DRAWN = 0.5  # standard deviation of the logarithms of the hyperparameters, from proposal to proposal
_ELITE = 10
_CHILDREN = 100  # of each kind: mutants, crossovers, random ones
_CHANGES = 3  # keys that a mutant differs in, at most
_STARTS, _CLIMB = 2, 10  # candidates to climb from, and steps at most
_ALL_STEPS = 32  # a key with more options is stepped along by powers of two


@dataclass(frozen=True)
class _Data:
    """Hold what a model is fitted to: architectures (n, keys), their factors' levels, their scores and runs (n,)."""

    rows: IntArray
    levels: IntArray
    scores: FloatArray
    runs: IntArray


class Bayesian(Search):
    """Bayesian optimization: fits a Gaussian process to all results, and proposes where it expects most improvement.

    Args:
        initial: architectures that are drawn at random before it chooses any; a quarter of them after a warm start.
        warm_start: results of earlier runs, from ``earlier_results``, also of a space that has changed: what fits is
            believed as far as this run's own results agree with it.
        shared: the arguments of every :class:`~nas_tuners.search.Search`.

    Raises:
        ValueError: ``initial`` is no whole number from 2 up, or ``warm_start`` holds something else.
    """

    warm_up_option = "initial"

    def __init__(
        self,
        initial: int = 16,
        warm_start: Sequence[Earlier | Mapping[str, Any]] | None = None,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        self._complain(whole("initial", initial, 2))
        self._earlier = [Earlier.read(given) for given in warm_start or ()]
        self.initial = self.warm_up = int(initial)
        self._results: list[Tokens] = []
        self._scores: list[float] = []  # of a stopped trial, its last
        self._stopped: dict[int, int] = {}  # by place among the results, the resource where that was
        self._given: Hyperparameters | None = None
        self._fitted = 0  # number of results that the hyperparameters were fitted to

    def setup(self, space: Space, optimize_mode: str = "maximize") -> None:
        """Take the space to search."""
        super().setup(space, optimize_mode)
        self._distances = Distances(space)
        self._radices = np.array(space.radices, dtype=np.int64)
        self._free = np.flatnonzero(self._radices > 1)
        steps = [_steps(radix) for radix in self._radices[self._free].tolist()]
        fitting = [earlier.translate(space) for earlier in self._earlier]
        self._before = [given for given in fitting if len(given[0]) >= _LEAST]
        if self._before:
            self.warm_up = max(self.initial // 4, 2)
        self._step_keys = np.repeat(self._free, [len(own) for own in steps])
        self._steps = np.concatenate([np.zeros(0, dtype=np.int64), *steps])

    def _learn(self, tokens: Tokens, score: float) -> None:
        self._results.append(tokens)
        self._scores.append(score)

    def _learn_stopped(self, tokens: Tokens, score: float, resource: int) -> None:
        self._stopped[len(self._results)] = resource
        self._learn(tokens, score)

    def _propose(self, n: int) -> IntArray:
        slot = self.counts.asked + self._remaining.found
        if slot < self.warm_up or len(self._results) < 2 or not len(self._free):
            return self._sample(min(n, max(self.warm_up - slot, 1)))
        self._refit()
        data = self._believe(self._data(), np.array([trial.tokens for trial in self.pending], dtype=np.int64))
        chosen: list[IntArray] = []
        for _ in range(n):
            row = self._choose(data, {tuple(row.tolist()) for row in chosen})
            if row is None:
                break
            chosen.append(row)
            data = self._believe(data, row[None])
        return np.array(chosen) if chosen else self._sample(n)

    def _refit(self) -> None:
        """Fit the hyperparameters, if there are enough new results."""
        if len(self._results) >= self._fitted * _GROWTH:
            data = self._data()
            self._given = fit(self._distances, data.levels, data.scores, data.runs)
            self._fitted = len(self._results)

    def _data(self) -> _Data:
        """Return the results to make the model of: this run's own, and those of earlier ones."""
        own = np.array(self._results, dtype=np.int64), self._expected_scores()
        parts = [_condense(*own, _MOST)]
        each = max(_MOST_EARLIER // max(len(self._before), 1), _LEAST)
        parts += [_condense(*before, each) for before in self._before]
        rows = np.concatenate([rows for rows, _ in parts])
        runs = np.repeat(np.arange(len(parts)), [len(rows) for rows, _ in parts])
        return _Data(rows, self._distances.read(rows), np.concatenate([scores for _, scores in parts]), runs)

    def _expected_scores(self) -> FloatArray:
        """Return the scores, of stopped trials those that they would have reached."""
        scores = np.array(self._scores)
        if self._stopped:
            told = {trial.uid: trial.score for trial in self.trials.values() if trial.state == "told"}
            for at, resource in self._stopped.items():
                scores[at] = self.curves.expect(float(scores[at]), resource, told)
        return scores

    def _believe(self, data: _Data, rows: IntArray) -> _Data:
        """Add architectures without results, at their posterior means."""
        if not len(rows):
            return data
        assert self._given is not None
        levels = self._distances.read(rows)
        expected = GaussianProcess(self._distances, self._given, data.levels, data.scores, data.runs).mean(levels)
        return _Data(
            np.concatenate([data.rows, rows]),
            np.concatenate([data.levels, levels]),
            np.concatenate([data.scores, expected]),
            np.concatenate([data.runs, np.zeros(len(rows), dtype=np.int64)]),
        )

    def _draw_hyperparameters(self) -> Hyperparameters:
        """Draw hyperparameters about the most likely ones."""
        given = self._given
        assert given is not None
        factors = np.exp(_DRAWN * self.rng.normal(size=2 * self._distances.keys + 2))
        adding, decaying = np.split(factors[2:], 2)
        return Hyperparameters(
            given.additive * adding,
            given.decay * decaying,
            given.product * factors[0],
            given.noise * factors[1],
            given.unlike,
        )

    def _choose(self, data: _Data, taken: set[Tokens]) -> IntArray | None:
        """Return the new architecture of the highest expected improvement; None if no candidate is new."""
        model = GaussianProcess(self._distances, self._draw_hyperparameters(), data.levels, data.scores, data.runs)
        means = model.mean(data.levels)
        order = np.argsort(-means, kind="stable")
        elite, best = data.rows[order[:_ELITE]], float(means[data.runs == 0].max())

        def value_of(rows: IntArray) -> FloatArray:
            return log_expected_improvement(*model.predict(self._distances.read(rows)), best)

        candidates = self._new(
            np.concatenate(
                [
                    elite,
                    self._neighbours(elite[0]),
                    self._mutants(elite),
                    self._crossovers(elite),
                    self._sample(_CHILDREN),
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
                near = self._new(self._neighbours(row), taken)
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

    def _neighbours(self, row: IntArray) -> IntArray:
        """Return all architectures that differ in one key; of keys with very many options, some of them."""
        rows = self.space.fill(np.tile(row, (len(self._steps), 1)), self.rng)
        at = np.arange(len(rows))
        rows[at, self._step_keys] = (rows[at, self._step_keys] + self._steps) % self._radices[self._step_keys]
        return rows

    def _mutants(self, elite: IntArray) -> IntArray:
        """Change one to three keys of the elite."""
        rows = self.space.fill(elite[self.rng.integers(len(elite), size=_CHILDREN)], self.rng)
        changes = self.rng.integers(1, _CHANGES + 1, size=len(rows))
        for change in range(_CHANGES):
            at = np.flatnonzero(changes > change)
            keys = self._free[self.rng.integers(len(self._free), size=len(at))]
            radices = self._radices[keys]
            rows[at, keys] = (rows[at, keys] + self.rng.integers(1, radices)) % radices
        return rows

    def _crossovers(self, elite: IntArray) -> IntArray:
        """Take each key from one of two of the elite."""
        pairs = self.space.fill(elite[self.rng.integers(len(elite), size=2 * _CHILDREN)], self.rng)
        first, second = np.split(pairs, 2)
        return np.where(self.rng.random(first.shape) < 0.5, first, second)


def _condense(rows: IntArray, scores: FloatArray, most: int) -> tuple[IntArray, FloatArray]:
    """Return architectures and normalized scores; of too many, the best half and the latest of the rest."""
    scores = normalize(scores)
    if len(scores) <= most:
        return rows, scores
    order = np.argsort(-scores, kind="stable")
    best, others = order[: most // 2], np.sort(order[most // 2 :])
    kept = np.sort(np.concatenate([best, others[-(most - len(best)) :]]))
    return rows[kept], scores[kept]


def _steps(radix: int) -> npt.NDArray[np.int64]:
    """Return the steps from an option to others: to all, or by powers of two in either direction."""
    if radix <= _ALL_STEPS:
        return np.arange(1, radix)
    powers = 2 ** np.arange(radix.bit_length() - 1)
    return np.unique(np.concatenate([powers, radix - powers]))
