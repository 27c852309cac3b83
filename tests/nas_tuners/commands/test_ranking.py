"""A score against its rivals: taus, paired differences, networks of equal macs, and the sentence that says it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas_tuners.commands import ranking
from nas_tuners.commands.ranking import (
    Ranker,
    Tau,
    compare_rankings,
    describe_rankers,
    describe_verdict,
    rank_correlation,
)

UP = list(range(12))
DOWN = UP[::-1]


def test_the_same_and_the_opposite_order_in_closed_form() -> None:
    score, twin, reverse = compare_rankings(UP, {"twin": [x**3 for x in UP], "reverse": DOWN}, UP)
    assert (score.tau.value, score.tau.low, score.tau.high, score.tau.error, score.tau.pairs) == (1, 1, 1, 0, 66)
    assert (twin.lead, twin.lead_error, twin.is_beaten) == (0, 0, False)
    assert (reverse.tau.value, reverse.lead, reverse.lead_error, reverse.is_beaten) == (-1, 2, 0, True)
    assert "The score ranks no better than twin (its tau is higher by 0.000 +- 0.000" in describe_verdict([score, twin])
    better = "The score ranks better than its best rival, reverse: its tau is higher by 2.000 +- 0.000."
    assert describe_verdict([score, reverse]) == better


def test_each_resample_is_the_same_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against SciPy's tau of networks that are drawn by hand, ties included."""
    monkeypatch.setattr(ranking, "_RESAMPLES", 300)
    rng = np.random.default_rng(5)
    truths, score, rival = rng.integers(0, 7, size=(3, 9))
    times = np.random.default_rng(3).multinomial(9, np.full(9, 1 / 9), size=300)
    drawn = [np.repeat(np.arange(9), row) for row in times]
    taus = np.array([[kendalltau(x[row], truths[row]).statistic for row in drawn] for x in (score, rival)])
    ranker = compare_rankings(score, {"rival": rival}, truths, seed=3)[1]
    assert ranker.tau.error == pytest.approx(np.nanstd(taus[1], ddof=1))
    assert [ranker.tau.low, ranker.tau.high] == pytest.approx(np.nanquantile(taus[1], [0.025, 0.975]))
    assert ranker.lead == pytest.approx(kendalltau(score, truths).statistic - ranker.tau.value)
    assert ranker.lead_error == pytest.approx(np.nanstd(taus[0] - taus[1], ddof=1))


def test_the_score_alone_is_rank_correlation() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 20)).tolist()
    (alone,) = compare_rankings(a, {}, b, seed=4)
    (score, _) = compare_rankings(a, {"rival": b}, b, seed=4)
    assert score == alone
    assert rank_correlation(a, b, 4) == (alone.tau.value, alone.tau.low, alone.tau.high)


def test_equal_macs_are_pairs_within_a_tenth_of_the_higher() -> None:
    rng = np.random.default_rng(2)
    truths, score, rival = rng.integers(0, 9, size=(3, 30))
    macs = rng.integers(85, 140, size=30)
    pairs = [
        (i, j) for i, j in itertools.combinations(range(30), 2) if abs(macs[i] - macs[j]) * 10 <= macs[[i, j]].max()
    ]
    for ranker, values in zip(compare_rankings(score, {"rival": rival}, truths, macs), (score, rival), strict=True):
        a, b = (np.array([np.sign(x[i] - x[j]) for i, j in pairs]) for x in (values, truths))
        assert ranker.at_equal_macs is not None and ranker.at_equal_macs.pairs == len(pairs)
        assert ranker.at_equal_macs.value == pytest.approx((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))
        assert ranker.at_equal_macs.low <= ranker.at_equal_macs.value <= ranker.at_equal_macs.high


@pytest.mark.parametrize(("macs", "pairs"), [([100] * 4 + [90] * 5, 36), ([100] * 4 + [89] * 5, None)])
def test_fewer_than_thirty_pairs_of_equal_macs_are_not_compared(macs: list[int], pairs: int | None) -> None:
    rankers = compare_rankings(range(9), {"macs": macs}, range(9), macs)
    assert [r.at_equal_macs and r.at_equal_macs.pairs for r in rankers] == [pairs, pairs]
    assert ("tau at equal macs (36 pairs)" in describe_rankers(rankers)[0]) == (pairs is not None)


def test_macs_that_are_all_equal_rank_nothing_and_score_and_truths_do() -> None:
    rankers = compare_rankings(UP, {"macs": [7] * 12}, UP, [7] * 12)
    assert rankers[0].at_equal_macs == rankers[0].tau
    assert not rankers[1].tau.is_defined and not rankers[1].is_beaten and math.isnan(rankers[1].lead)
    assert describe_rankers(rankers)[2].split() == ["macs", "undefined", "undefined"]
    assert "better than chance: its tau is higher by 1.000" in describe_verdict(rankers)


def test_of_what_is_like_the_score_a_smaller_lead_is_seen() -> None:
    rng = np.random.default_rng(0)
    truths, noise, other, little = rng.normal(size=(4, 60))
    score = truths + 0.5 * noise
    _, like, unlike = compare_rankings(score, {"like": score + 0.1 * little, "unlike": truths + 0.5 * other}, truths)
    assert like.lead_error < unlike.lead_error / 2 < like.tau.error


def test_a_rival_that_is_not_beaten_counts_before_a_better_one_that_is() -> None:
    def ranker(name: str, tau: float, lead: float, error: float) -> Ranker:
        return Ranker(name, Tau(tau, tau - 0.1, tau + 0.1, 0.05, 66), lead, error, None)

    score, near, loose = ranker("score", 0.6, 0, 0), ranker("near", 0.5, 0.1, 0.04), ranker("loose", 0.3, 0.3, 0.16)
    assert "better than its best rival, near: its tau is higher by 0.100 +- 0.040." in describe_verdict([score, near])
    said = describe_verdict([score, near, loose])
    assert "no better than loose (its tau is higher by 0.300 +- 0.160, wanted higher by more" in said
    assert "more networks would tell so small a lead" in said


@pytest.mark.parametrize(
    ("score", "rival", "truths", "said"),
    [
        ([1] * 12, UP, UP, "The score is equal for all networks, so that the supernet is of no use"),
        (UP, UP, [1] * 12, "There is no order to compare."),
        (DOWN, DOWN, UP, "no better than chance (its tau is lower by 1.000 +- 0.000, wanted higher"),
        ([1, 0, 3, 2, *UP[4:]], UP, UP, "no better than rival (its tau is lower by 0.061"),
    ],
)
def test_what_is_said_where_nothing_is_ranked(score: list[int], rival: list[int], truths: list[int], said: str) -> None:
    assert said in describe_verdict(compare_rankings(score, {"rival": rival}, truths))


def test_better_is_seldom_said_of_what_is_not() -> None:
    """Score and rival are equally good; more than two standard errors apart, on one side, are 2.3 % of a normal."""
    rng, rounds = np.random.default_rng(0), 100
    said = 0
    for seed in range(rounds):
        truths, a, b = rng.normal(size=(3, 25))
        said += compare_rankings(truths + a, {"rival": truths + b}, truths, seed=seed)[1].is_beaten
    assert said <= 0.06 * rounds


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(
        ValueError, match=r"score has shape \(2,\), wanted \(3,\).*; a has 1 numbers that are not finite"
    ):
        compare_rankings([1, 2], {"a": [1, math.nan, 2]}, [1, 2, 3])
    with pytest.raises(ValueError, match="got 2 truths, wanted 3 or more"):
        compare_rankings([1, 2], {}, [1, 2])
