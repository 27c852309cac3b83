"""Compare how well a score and its rivals rank the same networks: Kendall's tau, with paired bootstrap.

Kendall's tau (Biometrika 1938; tau-b, which allows for ties). Bootstrap (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993): networks are drawn with replacement, and each draw gives a tau to the score and to every rival. Taus
of the same networks rise and fall together, so that their difference is known better than either of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

COVERAGE = 0.95
"""Of the intervals."""
LEAST_PAIRS = 30
"""Of networks of equal macs; of fewer no tau is computed."""
_RESAMPLES = 2000
_PARTS = 10  # macs are equal where they differ by at most one part in so many of the higher
_CLEAR = 2.0  # standard errors, above which a difference counts
_USELESS = (
    ", so that the supernet is of no use to rank this space: train it longer or with another strategy, or score with "
    "more images"
)

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tau:
    """Kendall's tau-b with the ends of its 95 % percentile interval, its standard error, and of how many pairs it is.

    All but ``pairs`` are NaN where tau is undefined: all scores, or all truths, are equal.
    """

    value: float
    low: float
    high: float
    error: float
    pairs: int

    @property
    def is_defined(self) -> bool:
        """Return whether there was an order to compare."""
        return not math.isnan(self.value)


@dataclass(frozen=True)
class Ranker:
    """How well one score ranks the networks, and how far the score in question, the first one, is ahead of it.

    Attributes:
        name: such as ``score``, ``macs``.
        tau: over all pairs of networks.
        lead: tau of the score in question less this tau; 0 for itself.
        lead_error: standard error of ``lead``.
        at_equal_macs: over the pairs of equal macs only; None where macs are not known, or the pairs too few.
    """

    name: str
    tau: Tau
    lead: float
    lead_error: float
    at_equal_macs: Tau | None

    @property
    def is_beaten(self) -> bool:
        """Return whether the score in question is ahead by more than two standard errors."""
        return self.lead > _CLEAR * self.lead_error


def compare_rankings(
    score: npt.ArrayLike,
    rivals: Mapping[str, npt.ArrayLike],
    truths: npt.ArrayLike,
    macs: npt.ArrayLike | None = None,
    seed: int = 0,
    name: str = "score",
) -> list[Ranker]:
    """Return how well a score and its rivals rank networks, by 2000 resamples that all of them share.

    Args:
        score: (n,), the score in question.
        rivals: by name, (n,) each. Of costs give those that rank best where they are highest: negative ones, where a
            low truth is the better.
        truths: (n,), what the networks reach, in the same direction as the scores.
        macs: (n,), to compare networks of equal macs as well: pairs that differ by at most 10 %, if there are 30.
        seed: of the resampling alone.
        name: of the score.

    Returns: the score first, then the rivals in their order.

    Raises:
        ValueError: there are fewer than three networks, not as many numbers of each, or some that are not finite.

    >>> rows = compare_rankings([1, 2, 3, 4], {"macs": [4, 3, 2, 1]}, [10, 20, 30, 40])
    >>> [(row.name, row.tau.value, row.lead) for row in rows]
    [('score', 1.0, 0.0), ('macs', -1.0, 2.0)]
    """
    columns = [(name, score), *rivals.items()]
    arrays = _read_arrays([("truths", truths), *columns, *([] if macs is None else [("macs", macs)])])
    truth, *signs = map(_compare_pairs, arrays[: len(columns) + 1])
    n, times = len(truth), _resample(len(truth), seed)
    near = np.zeros((n, n)) if macs is None else _find_equal(arrays[-1])
    near_pairs = int(near.sum()) // 2
    taus = [_find_taus(sign, truth, times) for sign in signs]
    rankers = []
    for (label, _), sign, own in zip(columns, signs, taus, strict=True):
        lead, _, _, lead_error = _summarize(taus[0] - own)
        within = None
        if near_pairs >= LEAST_PAIRS:
            within = Tau(*_summarize(_find_taus(sign * near, truth * near, times)), near_pairs)
        rankers.append(Ranker(label, Tau(*_summarize(own), n * (n - 1) // 2), lead, lead_error, within))
    return rankers


def rank_correlation(scores: Sequence[float], truths: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Return Kendall's tau-b, and the ends of its 95 % percentile interval over 2000 resamples of the pairs.

    Orders that agree wholly, or disagree wholly, give an interval of no width: give more architectures to learn more.

    Args:
        scores: one an architecture.
        truths: of the same architectures, in the same order.
        seed: of the resampling alone.

    Returns: tau, low, high, each in [-1, 1]; NaN where all scores, or all truths, are equal.

    Raises:
        ValueError: there are fewer than three pairs, not as many scores as truths, or some that are not finite.

    >>> rank_correlation([1, 2, 3, 4], [10, 20, 30, 40])
    (1.0, 1.0, 1.0)
    """
    if len(scores) != len(truths) or len(scores) < 3:
        raise ValueError(f"got {len(scores)} scores and {len(truths)} truths, wanted as many of both, and 3 or more.")
    (ranker,) = compare_rankings(scores, {}, truths, seed=seed)
    return ranker.tau.value, ranker.tau.low, ranker.tau.high


def _read_arrays(columns: Sequence[tuple[str, npt.ArrayLike]]) -> list[_Array]:
    """Return each column as an array, of as many numbers as the first. Raises ValueError with all that is wrong."""
    arrays = [np.asarray(values, dtype=np.float64) for _, values in columns]
    n, problems = arrays[0].size, []
    if n < 3:
        problems.append(f"got {n} {columns[0][0]}, wanted 3 or more")
    for (name, _), array in zip(columns, arrays, strict=True):
        if array.shape != (n,):
            problems.append(f"{name} has shape {array.shape}, wanted ({n},), one number a network")
        elif not np.isfinite(array).all():
            problems.append(f"{name} has {int((~np.isfinite(array)).sum())} numbers that are not finite")
    if problems:
        raise ValueError("; ".join(problems) + ".")
    return arrays


def _resample(n: int, seed: int) -> _Array:
    """Return how often each network is drawn, (1 + resamples, n); the first row is the networks themselves."""
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    return np.vstack([np.ones(n), drawn]).astype(np.float64)


def _compare_pairs(values: _Array) -> _Array:
    """Return which of two networks is higher, (n, n): 1, -1, or 0 for a tie."""
    return np.asarray(np.sign(values[:, None] - values[None, :]))


def _find_equal(macs: _Array) -> _Array:
    """Return 1 for each two networks of equal macs, (n, n), 0 for the others."""
    near = _PARTS * np.abs(macs[:, None] - macs[None, :]) <= np.maximum(macs[:, None], macs[None, :])
    return np.asarray(near & ~np.eye(len(macs), dtype=bool), dtype=np.float64)


def _find_taus(a: _Array, b: _Array, times: _Array) -> _Array:
    """Return tau-b of each resample, (resamples,), NaN where it is undefined.

    SciPy's function takes one sample at a time, and would need seconds for all of them.

    Args:
        a, b: (n, n), which of two is higher; 0 for a tie, and for pairs that do not count.
        times: (resamples, n), how often each network is drawn. A network and its copy are a tie.
    """
    agree, untied_a, untied_b = (((times @ matrix) * times).sum(axis=1) for matrix in (a * b, a * a, b * b))
    both = untied_a * untied_b
    return np.asarray(np.divide(agree, np.sqrt(both), out=np.full(len(times), math.nan), where=both > 0))


def _summarize(values: _Array) -> tuple[float, float, float, float]:
    """Return the first value, and of the others, which are its resamples, interval and standard deviation."""
    resampled = values[1:][~np.isnan(values[1:])]
    if math.isnan(values[0]) or len(resampled) < 2:
        return math.nan, math.nan, math.nan, math.nan
    low, high = np.quantile(resampled, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]).tolist()
    return float(values[0]), low, high, float(resampled.std(ddof=1))


def describe_rankers(rankers: Sequence[Ranker]) -> list[str]:
    """Return a table of the score and its rivals: a line of titles, then one each."""
    score = rankers[0]
    near = score.at_equal_macs
    titles = ["ranked by", "tau", f"{100 * COVERAGE:.0f} % interval", f"{score.name}'s lead"]
    rows = [[*titles, f"tau at equal macs ({near.pairs} pairs)" if near else ""]]
    for ranker in rankers:
        tau, lead = ranker.tau, f"{ranker.lead: .3f} +- {ranker.lead_error:.3f}"
        known = ranker is not score and not math.isnan(ranker.lead)
        within = ", ".join(filter(None, _describe_tau(ranker.at_equal_macs))) if ranker.at_equal_macs else ""
        rows.append([ranker.name, *_describe_tau(tau), lead if known else "", within])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _describe_tau(tau: Tau) -> list[str]:
    """Return tau and its interval, one cell each."""
    return [f"{tau.value: .3f}", f"{tau.low:.2f} to {tau.high:.2f}"] if tau.is_defined else ["undefined", ""]


def describe_verdict(rankers: Sequence[Ranker]) -> str:
    """Return a sentence: how far the score ranks better than its best rival, or that it does not, and what to do.

    A rival is beaten by a lead of more than two standard errors. All have to be, and chance, whose tau is 0, as well.
    """
    score, *others = rankers
    rivals = [rival for rival in others if rival.tau.is_defined]
    if not score.tau.is_defined:
        what = f"The {score.name} is equal for all networks{_USELESS}" if rivals else "There is no order to compare"
        return f"{what}."
    chance = Ranker("chance", Tau(0.0, 0.0, 0.0, 0.0, score.tau.pairs), score.tau.value, score.tau.error, None)
    unbeaten = [rival for rival in (*rivals, chance) if not rival.is_beaten]
    best = max(unbeaten or rivals or [chance], key=lambda rival: rival.tau.value)
    lead = f"{'lower' if best.lead < 0 else 'higher'} by {abs(best.lead):.3f} +- {best.lead_error:.3f}"
    if not unbeaten:
        whom = "chance" if best is chance else f"its best rival, {best.name}"
        return f"The {score.name} ranks better than {whom}: its tau is {lead}."
    more = "; more networks would tell so small a lead" if best.lead > 0 else ""
    why = f"its tau is {lead}, wanted higher by more than two standard errors{more}"
    return f"The {score.name} ranks no better than {best.name} ({why}){_USELESS}."
