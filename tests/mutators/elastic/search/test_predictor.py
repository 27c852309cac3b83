"""The predictor: what it sees, how it ranks what it never saw, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mutators.elastic import ElasticError
from mutators.elastic.search.predictor import AccuracyPredictor, Features, rank_correlations
from tests.mutators.elastic.training import shrinking as toy


def test_features_are_one_hot_and_zero_beyond_the_depth() -> None:
    features = Features(toy.Net())
    keys = list(features.space.keys)
    row = [0] * len(keys)
    row[keys.index("stage.1.expand_ratio")] = 2
    shown = {}
    for depth in range(3):
        row[keys.index("stage.depth")] = depth
        (hot,) = features.of([row])
        shown[depth] = {key: part.tolist() for key, part in zip(keys, np.split(hot, len(keys)), strict=True)}
    assert shown[0]["stage.0.expand_ratio"] == shown[2]["stage.0.expand_ratio"] == [1, 0, 0]
    assert shown[0]["stage.1.expand_ratio"] == [0, 0, 0] and shown[1]["stage.1.expand_ratio"] == [0, 0, 1]
    assert shown[1]["stage.2.expand_ratio"] == [0, 0, 0] and shown[2]["stage.2.expand_ratio"] == [1, 0, 0]
    assert [shown[depth]["stage.depth"].index(1) for depth in range(3)] == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("interacting", [False, True])
def test_it_ranks_what_it_never_saw(interacting: bool) -> None:
    predictor, rng = AccuracyPredictor(toy.Net()), np.random.default_rng(1)
    rows = np.unique(predictor.features.space.sample_tokens(rng, 200), axis=0)
    x = predictor.features.of(rows)
    scores = 0.5 + 0.01 * x @ rng.normal(size=x.shape[1]) + 0.02 * interacting * x[:, 0] * x[:, 4]
    state, python_state = torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002
    ranking = predictor.fit(rows[:150].tolist(), scores[:150].tolist())
    assert torch.equal(state, torch.random.get_rng_state())
    assert np.array_equal(python_state[1], np.random.get_state()[1])  # noqa: NPY002
    assert ranking.held_out == 30 and ranking.spearman > 0.8 and ranking.kendall > 0.6
    assert predictor.kind in ("ridge", "boosting", "mlp") and predictor.ranking == ranking
    spearman, _ = rank_correlations(predictor.predict(rows[150:]), scores[150:])
    assert spearman > 0.8
    assert AccuracyPredictor(toy.Net()).fit(rows[:150].tolist(), scores[:150].tolist()) == ranking


@pytest.mark.slow
def test_noise_is_not_called_a_ranking() -> None:
    predictor, rng = AccuracyPredictor(toy.Net()), np.random.default_rng(1)
    rows = np.unique(predictor.features.space.sample_tokens(rng, 150), axis=0)
    ranking = predictor.fit(rows, rng.normal(size=len(rows)).tolist())
    assert abs(ranking.spearman) < 0.6
    assert np.isnan(predictor.fit(rows, [0.5] * len(rows)).spearman)


def test_correlations_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])
    assert rank_correlations(a, b) == pytest.approx((1 - 6 * 2 / (4 * 15), (5 - 1) / 6))


@pytest.mark.parametrize(("n", "scores"), [(19, 19), (30, 29), (30, 0)])
def test_too_few(n: int, scores: int) -> None:
    predictor = AccuracyPredictor(toy.Net())
    with pytest.raises(ElasticError, match="at least 20"):
        predictor.fit([[0] * 7] * n, [0.5] * scores)
    with pytest.raises(ElasticError, match="at least 20"):
        predictor.fit([[0] * 7] * 30, [float("nan")] * 30)
    with pytest.raises(ElasticError, match="was not fitted"):
        predictor.predict([[0] * 7])
