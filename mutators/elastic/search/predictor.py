"""How well a sub-network will do, predicted from its choices. After Once-for-All's accuracy predictor.

Differs: fitted here, where there only the weights of a fitted one are published; the kind of model is chosen by
cross-validation, and how well it ranks is told for sub-networks that it never saw.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from mutators.elastic.anatomy import Anatomy
from mutators.elastic.layers.errors import ElasticError

FloatArray = npt.NDArray[np.float64]
LEAST = 20
"""Measured sub-networks, without which nothing is fitted."""
FOLDS = 5
HELD_OUT = 0.2


@dataclass(frozen=True)
class Ranking:
    """How well predictions rank sub-networks that were held out of the fit.

    Attributes:
        spearman: rank correlation, -1 to 1; nan where all are predicted alike.
        kendall: the same by pairs, Kendall's tau-b.
        held_out: number of sub-networks.
    """

    spearman: float
    kendall: float
    held_out: int

    def __str__(self) -> str:
        return f"Spearman {self.spearman:.3f}, Kendall {self.kendall:.3f} on {self.held_out} held-out sub-networks"


class Features:
    """One-hot features of sub-networks; those of layers that a depth leaves out are all zero.

    Raises:
        CostError: the model has no elastic choices, or others beside them.
    """

    def __init__(self, model: nn.Module) -> None:
        self._anatomy = Anatomy(model)
        self.space = self._anatomy.space

    def of(self, tokens: npt.ArrayLike) -> FloatArray:
        """(n, keys) to (n, sum of the radices)."""
        rows = np.asarray(tokens, dtype=np.int64)
        active = self._anatomy.active(rows)
        hot = [np.eye(radix)[rows[:, key]] * active[:, key, None] for key, radix in enumerate(self.space.radices)]
        return np.hstack(hot)


class AccuracyPredictor:
    """Predicts the score of a sub-network.

    Args:
        model: elastic; only its choices count.
        seed: of the models and of what is held out.

    Attributes:
        kind: of the model that was chosen: "ridge", "boosting" or "mlp"; None before the fit.
        ranking: of the held-out sub-networks; None before the fit.

    Raises:
        CostError: the model has no elastic choices, or others beside them.
    """

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        self.features, self._seed = Features(model), seed
        self.kind: str | None = None
        self.ranking: Ranking | None = None
        self._model: Any = None

    def fit(self, tokens: npt.ArrayLike, scores: Sequence[float]) -> Ranking:
        """Learn from measured sub-networks: choose a kind of model, tell how well it ranks, and fit it to all.

        Args:
            tokens: (n, keys), at least 20.
            scores: (n,)

        Returns: of the fifth of them that was held out.

        Raises:
            ElasticError: there are too few, or not as many scores as tokens, or scores that are no finite numbers.
        """
        x, y = self.features.of(tokens), np.asarray(scores, dtype=np.float64)
        if len(x) < LEAST or len(x) != len(y) or not np.isfinite(y).all():
            raise ElasticError(
                f"a predictor is fitted to {len(x)} sub-networks and {len(y)} scores, wanted at least {LEAST}, as many "
                "of the ones as of the others, and finite numbers."
            )
        order = np.random.default_rng(self._seed).permutation(len(x))
        held, seen = np.split(order, [max(int(HELD_OUT * len(x)), 4)])
        made = _kinds(self._seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an iteration has not converged is no news of a small data set
            quality = {name: _across(make, x[seen], y[seen]) for name, make in made.items()}
            self.kind = max(quality, key=quality.__getitem__)
            predicted = made[self.kind]().fit(x[seen], y[seen]).predict(x[held])
            self._model = made[self.kind]().fit(x, y)
        self.ranking = Ranking(*correlations(predicted, y[held]), len(held))
        return self.ranking

    def predict(self, tokens: npt.ArrayLike) -> FloatArray:
        """(n, keys) to (n,) scores.

        Raises:
            ElasticError: it was not fitted.
        """
        if self._model is None:
            raise ElasticError("the predictor was not fitted: call fit(tokens, scores) first.")
        return np.asarray(self._model.predict(self.features.of(tokens)), dtype=np.float64)


def correlations(a: FloatArray, b: FloatArray) -> tuple[float, float]:
    """Spearman's and Kendall's rank correlation of (n,) and (n,); nan where one is constant."""
    from scipy.stats import kendalltau, spearmanr

    if a.min() == a.max() or b.min() == b.max():
        return float("nan"), float("nan")
    return float(spearmanr(a, b).statistic), float(kendalltau(a, b).statistic)


def _kinds(seed: int) -> dict[str, Callable[[], Any]]:
    """The models to choose from, of scores as they are; the first of equals is taken."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.linear_model import Ridge
    from sklearn.neural_network import MLPRegressor
    from sklearn.preprocessing import StandardScaler

    models: dict[str, Callable[[], Any]] = {
        "ridge": lambda: Ridge(alpha=1.0),
        "boosting": lambda: GradientBoostingRegressor(learning_rate=0.1, n_estimators=100, random_state=seed),
        "mlp": lambda: MLPRegressor(
            hidden_layer_sizes=(64, 64), solver="lbfgs", alpha=0.1, max_iter=300, random_state=seed
        ),
    }
    return {
        name: lambda make=make: TransformedTargetRegressor(make(), transformer=StandardScaler())  # type: ignore[misc]
        for name, make in models.items()
    }


def _across(make: Callable[[], Any], x: FloatArray, y: FloatArray) -> float:
    """Rank correlation of scores with what models say that were fitted without them; -1 where there is none."""
    predicted = np.zeros_like(y)
    for fold in np.array_split(np.arange(len(y)), FOLDS):
        rest = np.setdiff1d(np.arange(len(y)), fold)
        predicted[fold] = make().fit(x[rest], y[rest]).predict(x[fold])
    spearman, _ = correlations(predicted, y)
    return spearman if np.isfinite(spearman) else -1.0
