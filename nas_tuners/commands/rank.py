"""``nas rank``: how far the scores of a supernet can be trusted to rank architectures.

Kendall's tau (Biometrika 1938; tau-b, which allows for ties) between its scores and those of the same architectures
trained alone, with a bootstrap interval.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas_tuners.commands import CommandError
from nas_tuners.commands.checks.spaces import load_space
from nas_tuners.commands.search import search_of
from nas_tuners.hosts.local import Job
from nas_tuners.runs.evaluation import NamedFunction
from nas_tuners.runs.journal import Event
from nas_tuners.runs.run import Run
from nas_tuners.search.random import RandomSearch
from nas_tuners.search.records import Trial, as_metrics
from nas_tuners.show.text import describe_choices, describe_failures, shorten_list
from search_spaces import Choices
from search_spaces.cost.limits import constraints_of

_RESAMPLES = 2000
_COVERAGE = 0.95


@dataclass(frozen=True)
class TwoScores:
    """An evaluation by two functions: a supernet's score, and that of the network trained alone."""

    score: NamedFunction
    retrain: NamedFunction

    def __call__(self, choices: Choices) -> dict[str, float]:
        score = _call_for_number(self.score, choices)
        return {"score": score, "default": _call_for_number(self.retrain, choices)}


def _call_for_number(function: NamedFunction, choices: Choices) -> float:
    value: float = as_metrics(function(choices))["default"]
    if not math.isfinite(value):
        raise ValueError(f"{function.name} returned {value}, wanted a finite number")
    return value


def execute(options: Namespace) -> int:
    """Score random architectures twice, and print how well the two orders agree."""
    if options.trials < 3:
        raise CommandError(f"-n is {options.trials}, wanted at least 3 architectures.")
    search = RandomSearch(options.seed, constraints_of(options.constraint or []), options.cost_table)
    functions = {"score": options.score, "retrain": options.retrain}
    job = Job("rank", functions, "random", options.trials, options.workers, str(Path.cwd()), options.trial_timeout)
    return _finish(job, job.start(search, load_space(options.space), options.output, _scores_of(job)))


def resume(job: Job, header: Event, path: Path) -> int:
    """Go on with a run of ``nas rank``, and print what it prints."""
    return _finish(job, job.resume(search_of(job, header, path), path))


def _scores_of(job: Job) -> TwoScores:
    return TwoScores(job.function("score"), job.function("retrain"))


def _finish(job: Job, run: Run) -> int:
    """Run to the end, and print the architectures by their scores, and Kendall's tau of at least three."""
    job.finish(run, _scores_of(job))
    told = [trial for trial in run.search.trials.values() if trial.state == "told"]
    failures = describe_failures(run)
    if len(told) < 3:
        message = f"{len(told)} architectures have both scores, wanted at least 3."
        raise CommandError("\n".join([message, *shorten_list(failures, 2, f"nas show {Path(str(run.path)).parent}")]))
    told.sort(key=lambda t: -_metric_of(t, "score"))
    scores, truths = ([_metric_of(t, name) for t in told] for name in ("score", "default"))
    places = {trial.uid: place for place, trial in enumerate(sorted(told, key=lambda t: -_metric_of(t, "default")), 1)}
    print(f"{'rank':>4} {'retrained':>9} {'score':>11} {'retrained':>11} {'uid':>4}  choices")
    for place, (trial, score, truth) in enumerate(zip(told, scores, truths, strict=True), 1):
        numbers = f"{place:>4} {places[trial.uid]:>9} {score:>11.6g} {truth:>11.6g} {trial.uid:>4}"
        print(f"{numbers}  {describe_choices(trial)}")
    failed = run.search.counts.failed
    of = f"{len(told)} architectures" + (f", {failed} failed" if failed else "")
    tau, low, high = rank_correlation(scores, truths, run.search.seed)
    agreement = f"{tau:.3f}, {100 * _COVERAGE:.0f} % interval {low:.2f} to {high:.2f}"
    undefined = "is undefined: all scores of a kind are equal"
    print(*failures, f"Kendall's tau {undefined if math.isnan(tau) else agreement} ({of})", sep="\n")
    return 0


def _metric_of(trial: Trial, name: str) -> float:
    return float((trial.metrics or {})[name])


def rank_correlation(scores: Sequence[float], truths: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Return Kendall's tau-b, and the ends of its 95 % percentile interval over 2000 resamples of the pairs.

    Orders that agree wholly, or disagree wholly, give an interval of no width: give more architectures to learn more.

    Args:
        scores: one an architecture.
        truths: of the same architectures, in the same order.
        seed: of the resampling alone.

    Returns: tau, low, high, each in [-1, 1]; NaN where all scores, or all truths, are equal.

    Raises:
        ValueError: there are fewer than three pairs, or not as many scores as truths.

    >>> rank_correlation([1, 2, 3, 4], [10, 20, 30, 40])
    (1.0, 1.0, 1.0)
    """
    from scipy.stats import kendalltau

    if len(scores) != len(truths) or len(scores) < 3:
        raise ValueError(f"got {len(scores)} scores and {len(truths)} truths, wanted as many of both, and 3 or more.")
    if min(scores) == max(scores) or min(truths) == max(truths):
        return math.nan, math.nan, math.nan
    tau = round(float(kendalltau(scores, truths).statistic), 12)  # it says 0.9999999999999998 of the same order
    # The same formula for all resamples at once: scipy would take seconds for 2000 of them.
    pairs, n = np.array([scores, truths], dtype=np.float64), len(scores)
    a, b = np.sign(pairs[:, :, None] - pairs[:, None, :])  # (n, n) each: which of two is higher
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES).astype(np.float64)
    agree, untied_a, untied_b = (((times @ matrix) * times).sum(axis=1) for matrix in (a * b, a * a, b * b))
    defined = untied_a * untied_b > 0
    taus = agree[defined] / np.sqrt((untied_a * untied_b)[defined])
    low, high = np.quantile(taus, [(1 - _COVERAGE) / 2, (1 + _COVERAGE) / 2]).tolist()
    return tau, low, high
