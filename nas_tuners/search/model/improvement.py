"""Normalize scores, and compute expected improvement."""

from __future__ import annotations

import math

import numpy as np

from nas_tuners.search.model.distances import FloatArray

_FAR = 3.0  # deviations below the median, from where on scores count alike
_TO_DEVIATION = 0.6745  # a quartile of the normal distribution
_ROOT = math.sqrt(math.pi / 2)


def normalize(scores: FloatArray) -> FloatArray:
    """Return scores with mean 0 and deviation 1, halfway between their ranks' normal scores and themselves.

    Ranks alone do not tell a small step ahead from a large one, and scores alone hang on a few that are very bad. A
    failure, ``-inf``, counts as the worst.
    """
    finite = scores[np.isfinite(scores)]
    if not len(finite) or finite.min() == scores.max() == scores.min():
        return np.zeros(len(scores))
    largest = np.abs(finite).max()  # whose square may be too large for a number
    scores, finite = scores / largest, finite / largest
    quarter, median = np.quantile(finite, [0.25, 0.5])
    lowest = max(float(finite.min()), median - _FAR * max(median - quarter, 1e-12) / _TO_DEVIATION)
    half = (_standardize(_rank(scores)) + _standardize(np.maximum(scores, lowest))) / 2
    return _standardize(half)


def log_expected_improvement(means: FloatArray, deviations: FloatArray, best: float) -> FloatArray:
    """Return the logarithm of the expected improvement on ``best``, also where it is tiny. All but ``best`` are (n,).

    Ament et al., Unexpected improvements to expected improvement, NeurIPS 2023.
    """
    from scipy.special import erfcx, log_ndtr

    z = (means - best) / deviations
    near = z > -1
    value = np.empty_like(z)
    above = z[near]
    value[near] = np.log(np.exp(-(above**2) / 2) / math.sqrt(2 * math.pi) + above * np.exp(log_ndtr(above)))
    below = z[~near]
    left = np.maximum(1 + below * _ROOT * erfcx(-below / math.sqrt(2)), 1e-15)
    value[~near] = -(below**2) / 2 - math.log(2 * math.pi) / 2 + np.log(left)
    return np.asarray(value + np.log(deviations))


def _rank(scores: FloatArray) -> FloatArray:
    """Return the normal scores of ranks; equal scores share theirs."""
    from scipy.special import ndtri

    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - sizes / 2
    return np.asarray(ndtri(middle[group] / len(scores)))


def _standardize(values: FloatArray) -> FloatArray:
    deviation = values.std()
    return (values - values.mean()) / deviation if deviation > 0 else np.zeros_like(values)
