"""Fit a Gaussian process to scores (Rasmussen and Williams, 2006), with an additive and a product kernel over keys.

An additive part, each key for itself, and a product part, all keys together, which dies away with the distance. The
weight of each key in both, the size of the product part and the noise are those that the scores make most likely,
with weak priors (maximum a posteriori, L-BFGS).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_tuners.search.model.distances import Distances, FloatArray, IntArray

_JITTER = 1e-6
_SPREAD = 1.5  # standard deviation of the priors, of logarithms
_ADDITIVE, _PRODUCT, _NOISE = 0.5, 0.5, 0.02  # variances that the priors have in their middle
_UNLIKE = 0.7  # the middle of the prior of what keeps runs apart
_REACH = 2.0  # sum of the weights in the product part
_FARTHEST = 5.0  # standard deviations of the priors
_STEPS = 40


@dataclass(frozen=True)
class Hyperparameters:
    """Hold the hyperparameters of the kernel.

    Attributes:
        additive: variance of each key for itself, (keys,).
        decay: by how much the logarithm of the product part falls with the distance in each key, (keys,).
        product: variance of the product part.
        noise: variance of a score about its mean, whether by chance or since the kernel does not describe it.
        unlike: by how much the logarithm of the whole kernel falls from one run to another.
    """

    additive: FloatArray
    decay: FloatArray
    product: float
    noise: float
    unlike: float = 0.0

    @staticmethod
    def of(logs: FloatArray) -> Hyperparameters:
        """Exponentiate an array of their logarithms."""
        keys = (len(logs) - 3) // 2
        values = np.exp(logs)
        return Hyperparameters(values[:keys], values[keys : 2 * keys], *map(float, values[-3:]))


def fit(distances: Distances, levels: IntArray, scores: FloatArray, runs: IntArray | None = None) -> Hyperparameters:
    """Find the most likely hyperparameters.

    Args:
        distances: of the space.
        levels: of the architectures that have scores, (n, factors).
        scores: of about mean 0 and variance 1, (n,).
        runs: the number of the run that each is of, (n,); None: all of one.
    """
    from scipy.linalg import cho_solve, lapack
    from scipy.optimize import minimize

    keys, n = distances.keys, len(levels)
    low, high = np.triu_indices(n, 1)
    apart = distances.between(levels[low], levels[high])
    other = np.zeros(len(low)) if runs is None else (runs[low] != runs[high]).astype(np.float64)
    rest = [_PRODUCT, _NOISE, _UNLIKE]
    middle = np.log(np.concatenate([np.full(keys, _ADDITIVE / keys), np.full(keys, _REACH / keys), rest]))

    def loss(logs: FloatArray) -> tuple[float, FloatArray]:
        given = Hyperparameters.of(logs)
        alike = np.exp(-given.unlike * other)
        product = given.product * np.exp(-given.decay @ apart) * alike
        total = given.additive.sum()
        kernel = np.empty((n, n))
        kernel[low, high] = kernel[high, low] = covered = product + (total - given.additive @ apart) * alike
        kernel[np.arange(n), np.arange(n)] = total + given.product + given.noise + _JITTER
        off = (logs - middle) / _SPREAD
        factor, info = lapack.dpotrf(kernel, lower=1, overwrite_a=1)
        if info:
            return 1e10, off / _SPREAD
        solved = cho_solve((factor, True), scores, check_finite=False)
        inverse, _ = lapack.dpotri(factor, lower=1)
        value = 0.5 * scores @ solved + np.log(np.diag(factor)).sum() + 0.5 * off @ off
        slope_at = inverse[high, low] - solved[low] * solved[high]  # twice half: both triangles
        diagonal = 0.5 * (np.diag(inverse) - solved**2).sum()
        weighted, adding = slope_at * product, slope_at * alike
        slope = np.concatenate(
            [
                given.additive * (adding.sum() + diagonal - apart @ adding),
                -given.decay * (apart @ weighted),
                [weighted.sum() + diagonal * given.product, diagonal * given.noise],
                [-given.unlike * (slope_at * covered) @ other],
            ]
        )
        return float(value), slope + off / _SPREAD

    bounds = list(zip(middle - _FARTHEST * _SPREAD, middle + _FARTHEST * _SPREAD, strict=True))
    found = minimize(loss, middle, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS})
    return Hyperparameters.of(found.x)


class GaussianProcess:
    """Predict the scores of all architectures from those that are known.

    Args:
        distances: of the space.
        given: the hyperparameters.
        levels: of the architectures that have scores, (n, factors).
        scores: theirs, (n,).
        runs: the number of the run that each is of, (n,), 0 for the one that predictions are of.
    """

    def __init__(
        self, distances: Distances, given: Hyperparameters, levels: IntArray, scores: FloatArray, runs: IntArray
    ) -> None:
        from scipy.linalg import lapack

        self._distances, self._given = distances, given
        self._decaying = distances.weighted(given.decay, levels)
        self._adding = distances.weighted(given.additive, levels)
        self._variance = given.additive.sum() + given.product
        self._alike = np.exp(-given.unlike * (runs != 0))
        kernel = self._kernel(levels) / self._alike  # as within one run
        kernel *= np.exp(-given.unlike * (runs[:, None] != runs))
        kernel[np.arange(len(levels)), np.arange(len(levels))] = self._variance + given.noise + _JITTER
        factor = np.linalg.cholesky(kernel)
        whitener, _ = lapack.dtrtri(factor, lower=1)
        self._inverse = whitener.T @ whitener
        self._solved = self._inverse @ scores

    def _kernel(self, levels: IntArray) -> FloatArray:
        ones = self._distances.one_hot(levels)
        kernel = self._given.product * np.exp(-(ones @ self._decaying))
        kernel += self._given.additive.sum() - ones @ self._adding
        return np.asarray(kernel * self._alike)

    def mean(self, levels: IntArray) -> FloatArray:
        """Return posterior means. (n, factors) to (n,)."""
        return np.asarray(self._kernel(levels) @ self._solved)

    def predict(self, levels: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return posterior means and standard deviations, without noise. (n, factors) to twice (n,)."""
        kernel = self._kernel(levels)
        explained = np.einsum("ij,ij->i", kernel @ self._inverse, kernel)
        return kernel @ self._solved, np.sqrt(np.maximum(self._variance - explained, 1e-12))
