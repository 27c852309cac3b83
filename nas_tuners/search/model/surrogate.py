"""Model one quantity over architectures, such as a score or a measured latency, by a Gaussian process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nas_tuners.search.model.distances import Distances, FloatArray, IntArray
from nas_tuners.search.model.gaussian_process import GaussianProcess, Hyperparameters, fit
from search_spaces.cost.table import CostTable

_GROWTH = 1.1  # of the results, after which the hyperparameters are fitted again
_DRAWN = 0.5  # standard deviation of the logarithms of the hyperparameters, from proposal to proposal


@dataclass(frozen=True)
class Data:
    """Hold what a model is fitted to.

    Attributes:
        rows: architectures, (n, keys).
        values: of mean 0 and deviation 1, (n,).
        runs: the number of the run that each is of, (n,), 0 for this one.
        counts: whether each keeps the outcome constraints, (n,).
    """

    rows: IntArray
    values: FloatArray
    runs: IntArray
    counts: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, rows: IntArray, values: FloatArray, counts: npt.NDArray[np.bool_] | bool = True, run: int = 0) -> Data:
        """Return results of one run."""
        n = len(rows)
        return cls(rows, values, np.full(n, run), np.broadcast_to(np.asarray(counts), (n,)))

    def __add__(self, other: Data) -> Data:
        names = ("rows", "values", "runs", "counts")
        return Data(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


class Prediction(Protocol):
    """Means and deviations of a quantity."""

    def mean(self, rows: IntArray) -> FloatArray:
        """Return means. (n, keys) to (n,)."""

    def predict(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return means and standard deviations. (n, keys) to twice (n,)."""


class Surrogate:
    """A Gaussian process of one quantity, whose hyperparameters are fitted again as results come."""

    def __init__(self, distances: Distances) -> None:
        self._distances = distances
        self._given: Hyperparameters | None = None
        self._fitted = 0  # number of results that the hyperparameters were fitted to

    def refit(self, data: Data, results: int) -> None:
        """Fit the hyperparameters, if there are enough new results."""
        if results >= self._fitted * _GROWTH:
            self._given = fit(self._distances, self._distances.read(data.rows), data.values, data.runs)
            self._fitted = results

    def believe(self, data: Data, rows: IntArray, counts: bool) -> Data:
        """Add architectures without results, at their posterior means."""
        if not len(rows):
            return data
        assert self._given is not None
        return data + Data.of(rows, _Learnt(self._distances, self._given, data).mean(rows), counts)

    def draw(self, data: Data, rng: np.random.Generator) -> Prediction:
        """Return a model with hyperparameters that are drawn about the most likely ones."""
        given = self._given
        assert given is not None
        factors = np.exp(_DRAWN * rng.normal(size=2 * self._distances.keys + 2))
        adding, decaying = np.split(factors[2:], 2)
        drawn = Hyperparameters(
            given.additive * adding,
            given.decay * decaying,
            given.product * factors[0],
            given.noise * factors[1],
            given.unlike,
        )
        return _Learnt(self._distances, drawn, data)


class _Learnt:
    def __init__(self, distances: Distances, given: Hyperparameters, data: Data) -> None:
        self._distances = distances
        self._model = GaussianProcess(distances, given, distances.read(data.rows), data.values, data.runs)

    def mean(self, rows: IntArray) -> FloatArray:
        return self._model.mean(self._distances.read(rows))

    def predict(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        return self._model.predict(self._distances.read(rows))


class Known:
    """A quantity that the cost table has, in units of its deviation over some architectures.

    Args:
        table: arranged for the space.
        metric: its name.
        sign: what it is multiplied by.
        rows: those architectures, (n, keys).
    """

    def __init__(self, table: CostTable, metric: str, sign: float, rows: IntArray) -> None:
        self._table, self._metric = table, metric
        costs = table.costs(metric, rows)
        self._middle, self._scale = costs.mean(), sign / (costs.std() or 1.0)

    def mean(self, rows: IntArray) -> FloatArray:
        return np.asarray((self._table.costs(self._metric, rows) - self._middle) * self._scale)

    def predict(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        return self.mean(rows), np.zeros(len(rows))
