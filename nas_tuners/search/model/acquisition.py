"""Say what is to be maximized for the next proposal: an expected improvement, times the chance to keep the limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nas_tuners.search.model.distances import FloatArray, IntArray
from nas_tuners.search.model.fronts import crowd, rank_fronts
from nas_tuners.search.model.hypervolume import cut_open_part, log_expected_hypervolume_improvement
from nas_tuners.search.model.improvement import log_expected_improvement
from nas_tuners.search.model.surrogate import Data, Prediction

_ELITE = 10
_MOST = 30  # points of a front of three objectives or more: the boxes between them grow with its powers
_MARGIN = 0.1  # of a front's range, that the reference point lies below it

Value = Callable[[IntArray], FloatArray]
"""Takes architectures, (n, keys), returns what each promises, as a logarithm, (n,)."""


@dataclass(frozen=True)
class Acquisition:
    """What the next proposal is chosen by.

    Attributes:
        value: what is to be maximized.
        elite: good architectures, whose mutants and crossovers are candidates, (n, keys).
        centre: the one whose neighbours are, too, (keys,).
    """

    value: Value
    elite: IntArray
    centre: IntArray


def improve_score(model: Prediction, data: Data, keeps: Value) -> Acquisition:
    """Improve on the best of one objective.

    Args:
        model: of the score.
        data: what it was made of.
        keeps: the logarithm of the chance to keep the outcome constraints.
    """
    means = model.mean(data.rows)
    elite = data.rows[np.lexsort((-means, ~data.counts))[:_ELITE]]
    own = data.counts & (data.runs == 0)
    best = float(means[own].max()) if own.any() else None

    def value(rows: IntArray) -> FloatArray:
        if best is None:  # nothing keeps the limits yet: that comes first
            return keeps(rows)
        return log_expected_improvement(*model.predict(rows), best) + keeps(rows)

    return Acquisition(value, elite, elite[0])


def improve_front(models: Sequence[Prediction], data: Data, keeps: Value, rng: np.random.Generator) -> Acquisition:
    """Improve on the hypervolume of a front.

    Args:
        models: of each objective.
        data: of any of them.
        keeps: the logarithm of the chance to keep the outcome constraints.
        rng: draws the point of the front whose neighbours are candidates.
    """
    means = np.stack([model.mean(data.rows) for model in models], axis=1)
    ranks = rank_fronts(means)
    order = np.lexsort((-crowd(means, ranks), ranks, ~data.counts))
    front = order[(ranks[order] == ranks[order[0]]) & (data.counts[order] == data.counts[order[0]])]
    elite = data.rows[order[: max(_ELITE, len(front))]]
    centre = data.rows[rng.choice(front)]
    if not data.counts.any():
        return Acquisition(keeps, elite, centre)
    points = means[front if len(models) == 2 else front[:_MOST]]
    spread = points.max(axis=0) - points.min(axis=0)
    lows, highs = cut_open_part(points, points.min(axis=0) - _MARGIN * np.maximum(spread, 1.0))

    def value(rows: IntArray) -> FloatArray:
        means, deviations = (np.stack(parts, axis=1) for parts in zip(*(m.predict(rows) for m in models), strict=True))
        return log_expected_hypervolume_improvement(means, deviations, lows, highs) + keeps(rows)

    return Acquisition(value, elite, centre)


def keep_limits(models: Sequence[Prediction], ends: Sequence[tuple[float, float]]) -> Value:
    """Return the logarithm of the chance that all metrics lie in their ranges, for independent normal distributions."""
    from scipy.special import log_ndtr

    def value(rows: IntArray) -> FloatArray:
        total = np.zeros(len(rows))
        for model, (low, high) in zip(models, ends, strict=True):
            means, deviations = model.predict(rows)
            if math.isinf(low):
                total += log_ndtr((high - means) / deviations)
            elif math.isinf(high):
                total += log_ndtr((means - low) / deviations)
            else:
                upper, lower = log_ndtr((high - means) / deviations), log_ndtr((low - means) / deviations)
                total += upper + np.log1p(-np.minimum(np.exp(lower - upper), 1 - 1e-12))
        return total

    return value
