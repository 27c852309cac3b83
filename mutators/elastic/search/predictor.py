"""Predict the score of a sub-network from its choices. After Once-for-All's accuracy predictor.

Differs: it is fitted here, where only the weights of a fitted one are published there; the kind of model is chosen by
cross-validation, and its rank correlation is that on sub-networks that it never saw.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.elastic.anatomy import Anatomy

FloatArray = npt.NDArray[np.float64]
LEAST = 20
"""Number of measured sub-networks that a fit needs."""
FOLDS = 5
HELD_OUT = 0.2


@dataclass(frozen=True)
class RankCorrelation:
    """The rank correlation of predictions with scores of sub-networks that were held out of the fit.

    Attributes:
        spearman: rank correlation, -1 to 1; nan where all predictions are equal.
        kendall: the same by pairs, Kendall's tau-b.
        held_out: number of sub-networks.
    """

    spearman: float
    kendall: float
    held_out: int

    def __str__(self) -> str:
        return f"Spearman {self.spearman:.3f}, Kendall {self.kendall:.3f} on {self.held_out} held-out sub-networks"


class Features:
    """An encoder of sub-networks as one-hot features; those of layers that a depth leaves out are all zero."""

    def __init__(self, model: nn.Module) -> None:
        self.space = Anatomy(model).space

    def of(self, tokens: npt.ArrayLike) -> FloatArray:
        """Return the features of (n, keys) sub-networks: (n, sum of the radices)."""
        rows = np.asarray(tokens, dtype=np.int64)
        active = self.space.active(rows)
        hot = [np.eye(radix)[rows[:, key]] * active[:, key, None] for key, radix in enumerate(self.space.radices)]
        return np.hstack(hot)


class AccuracyPredictor:
    """A predictor of the score of a sub-network.

    Args:
        model: elastic; only its choices are used.
        seed: of the models and of the choice of the sub-networks that are held out.

    Attributes:
        kind: of the model that was chosen: "ridge", "boosting" or "mlp"; None before the fit.
        ranking: of the held-out sub-networks; None before the fit.

    Raises:
        CostError: the model has no elastic choices, or others beside them.
    """

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        self.features, self._seed = Features(model), seed
        self.kind: str | None = None
        self.ranking: RankCorrelation | None = None
        self._model: Any = None

    def fit(self, tokens: npt.ArrayLike, scores: Sequence[float]) -> RankCorrelation:
        """Fit to measured sub-networks: choose a kind of model, test how well it ranks, and fit it to all.

        Args:
            tokens: (n, keys), at least 20.
            scores: (n,)

        Returns: the correlation on the fifth of them that was held out.

        Raises:
            ElasticError: there are too few, or not as many scores as tokens, or scores that are no finite numbers.
        """
        x, y = self.features.of(tokens), np.asarray(scores, dtype=np.float64)
        if len(x) < LEAST or len(x) != len(y) or not np.isfinite(y).all():
            raise ElasticError(
                f"a predictor got {len(x)} sub-networks and {len(y)} scores, wanted at least {LEAST}, as many "
                "scores, and finite ones."
            )
        order = np.random.default_rng(self._seed).permutation(len(x))
        held, seen = np.split(order, [max(int(HELD_OUT * len(x)), 4)])
        models = _make_models(self._seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on small data sets iterations often do not converge
            quality = {name: _cross_validate(model, x[seen], y[seen]) for name, model in models.items()}
            self.kind = max(quality, key=quality.__getitem__)
            self._model = models[self.kind]
            predicted = self._model.fit(x[seen], y[seen]).predict(x[held])
            self._model.fit(x, y)
        self.ranking = RankCorrelation(*rank_correlations(predicted, y[held]), len(held))
        return self.ranking

    def predict(self, tokens: npt.ArrayLike) -> FloatArray:
        """Return the predicted scores of (n, keys) sub-networks: (n,). Raises an ElasticError before the fit."""
        if self._model is None:
            raise ElasticError("the predictor was not fitted: call fit(tokens, scores) first.")
        return np.asarray(self._model.predict(self.features.of(tokens)), dtype=np.float64)


def rank_correlations(a: FloatArray, b: FloatArray) -> tuple[float, float]:
    """Return Spearman's and Kendall's rank correlation of (n,) and (n,); nan where one is constant."""
    from scipy.stats import kendalltau, spearmanr

    if a.min() == a.max() or b.min() == b.max():
        return float("nan"), float("nan")
    return float(spearmanr(a, b).statistic), float(kendalltau(a, b).statistic)


def _make_models(seed: int) -> dict[str, Any]:
    """Return the models to choose from; the first of equals is taken."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.linear_model import Ridge
    from sklearn.neural_network import MLPRegressor
    from sklearn.preprocessing import StandardScaler

    models = {
        "ridge": Ridge(alpha=1.0),
        "boosting": GradientBoostingRegressor(learning_rate=0.1, n_estimators=100, random_state=seed),
        "mlp": MLPRegressor(hidden_layer_sizes=(64, 64), solver="lbfgs", alpha=0.1, max_iter=300, random_state=seed),
    }
    return {name: TransformedTargetRegressor(model, transformer=StandardScaler()) for name, model in models.items()}


def _cross_validate(model: Any, x: FloatArray, y: FloatArray) -> float:
    """Return the rank correlation of scores with the predictions of models fitted without them; -1 if undefined."""
    from sklearn.model_selection import cross_val_predict

    spearman, _ = rank_correlations(cross_val_predict(model, x, y, cv=FOLDS), y)
    return spearman if np.isfinite(spearman) else -1.0
