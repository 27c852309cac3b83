"""``nas rank``: how far a supernet's scores can be trusted to rank architectures.

Kendall's tau (Biometrika 1938; tau-b, which allows for ties) between its scores and those of the same architectures
trained alone, with a bootstrap interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_tuners.commands import CommandError
from nas_tuners.commands.locate import NAME
from nas_tuners.commands.search import Job, begun, conduct, resumed, search_of
from nas_tuners.commands.show import one_line
from nas_tuners.runs.evaluation import Imported
from nas_tuners.runs.journal import Event
from nas_tuners.runs.run import Run
from nas_tuners.search.random import RandomSearch
from nas_tuners.search.records import Trial, as_metrics
from search_spaces import Choices, Space
from search_spaces.cost.limits import constraints_of

_RESAMPLES = 2000
_COVERAGE = 0.95


@dataclass(frozen=True)
class Both:
    """Evaluates by two functions: a supernet's score, and that of the network trained alone."""

    score: Imported
    retrain: Imported

    def __call__(self, choices: Choices) -> dict[str, float]:
        score = _finite(self.score, choices)
        return {"score": score, "default": _finite(self.retrain, choices)}


def _finite(function: Imported, choices: Choices) -> float:
    value: float = as_metrics(function(choices))["default"]
    if not math.isfinite(value):
        raise ValueError(f"{function.name} returned {value}, wanted a finite number")
    return value


def rank(
    space: Path,
    score: str,
    retrain: str,
    folder: Path,
    *,
    trials: int = 10,
    seed: int = 0,
    workers: int = 1,
    constraints: list[str] | None = None,
    cost_table: Path | None = None,
) -> list[str]:
    """Score random architectures twice, and compare. Both scores are to be high, or both low.

    Args:
        space: a space file.
        score: ``module:function`` that takes choices and returns the supernet's score.
        retrain: ``module:function`` that takes choices and returns the score of the network trained alone.
        folder: for the journal; it must not have one yet.
        trials: random architectures, drawn without replacement.
        seed: of the draw, and of the bootstrap.
        workers: processes.
        constraints: such as ``macs<=330e6``.
        cost_table: a file of ``nas cost``.

    Returns: a table, and Kendall's tau with its interval.

    Raises:
        ValueError, RuntimeError: whatever is wrong with the arguments; nothing was written then.
    """
    if trials < 3:
        raise CommandError(f"-n is {trials}, wanted at least 3 architectures.")
    both = Both(Imported(score), Imported(retrain))
    made = RandomSearch(seed, constraints_of(constraints or []), cost_table)
    job = Job("rank", {"score": score, "retrain": retrain}, "random", trials, workers, str(Path.cwd()))
    run = begun(job, made, Space.load(space), folder, both)
    conduct(run, job, both, folder / NAME)
    return report(run)


def resume_rank(job: Job, header: Event, path: Path) -> list[str]:
    """Go on with a run of ``nas rank``. Returns: what :func:`rank` does."""
    path = path.resolve()
    both = Both(job.function("score"), job.function("retrain"))
    run = resumed(search_of(job, header, path), job, path)
    conduct(run, job, both, path)
    return report(run)


def report(run: Run) -> list[str]:
    """The architectures in the order of their scores, and how well the two orders agree.

    Raises:
        CommandError: fewer than three have both scores.
    """
    trials = list(run.search.trials.values())
    told = sorted((t for t in trials if t.state == "told"), key=lambda t: -_metric(t, "score"))
    failed = [trial for trial in trials if trial.state == "failed"]
    lines = [f"failed: uid {trial.uid}: {trial.reason}" for trial in failed[-3:]]
    if len(told) < 3:
        raise CommandError("\n".join([f"{len(told)} architectures have both scores, wanted at least 3.", *lines[-2:]]))
    scores, truths = [_metric(t, "score") for t in told], [_metric(t, "default") for t in told]
    places = {trial.uid: place for place, trial in enumerate(sorted(told, key=lambda t: -_metric(t, "default")), 1)}
    table = [f"{'rank':>4} {'retrained':>9} {'score':>11} {'retrained':>11} {'uid':>4}  choices"]
    table += [
        f"{place:>4} {places[t.uid]:>9} {score:>11.6g} {truth:>11.6g} {t.uid:>4}  {one_line(t)}"
        for place, (t, score, truth) in enumerate(zip(told, scores, truths, strict=True), 1)
    ]
    return [*table, *lines, _verdict(*kendall(scores, truths, run.search.seed), len(told), len(failed))]


def _verdict(tau: float, low: float, high: float, told: int, failed: int) -> str:
    of = f"{told} architectures" + (f", {failed} failed" if failed else "")
    if math.isnan(tau):
        return f"Kendall's tau is undefined: all scores of a kind are equal ({of})"
    interval = "" if math.isnan(low) else f", {100 * _COVERAGE:.0f} % interval {low:.2f} to {high:.2f}"
    return f"Kendall's tau {tau:.3f}{interval} ({of})"


def _metric(trial: Trial, name: str) -> float:
    metrics: Any = trial.metrics
    return float(metrics[name])


def kendall(scores: Sequence[float], truths: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Return Kendall's tau-b, and the ends of its 95 % percentile interval over 2000 resamples of the pairs.

    Two orders that agree, or disagree, wholly give an interval of no width: more architectures can tell more.

    Args:
        scores: one an architecture.
        truths: of the same architectures, in the same order.
        seed: of the resampling alone.

    Returns: tau, low, high, each in [-1, 1]; NaN where all scores, or all truths, are equal.

    Raises:
        ValueError: there are fewer than three pairs, or not as many of the one as of the other.

    >>> kendall([1, 2, 3, 4], [10, 20, 30, 40])
    (1.0, 1.0, 1.0)
    """
    import numpy as np

    if len(scores) != len(truths) or len(scores) < 3:
        raise ValueError(f"got {len(scores)} scores and {len(truths)} truths, wanted as many of both, and 3 or more.")
    pairs = np.array([scores, truths], dtype=np.float64)
    a, b = np.sign(pairs[:, :, None] - pairs[:, None, :])  # (n, n) each: which of two is higher
    n = len(scores)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    times = np.vstack([np.ones(n), drawn])  # the pairs themselves, then how often each resample has each of them
    agree, untied_a, untied_b = (((times @ matrix) * times).sum(axis=1) for matrix in (a * b, a * a, b * b))
    taus = agree / np.sqrt(np.where(untied_a * untied_b > 0, untied_a * untied_b, np.nan))
    tau, resampled = float(taus[0]), taus[1:][np.isfinite(taus[1:])]
    if math.isnan(tau):
        return math.nan, math.nan, math.nan
    low, high = np.quantile(resampled, [(1 - _COVERAGE) / 2, (1 + _COVERAGE) / 2]).tolist()
    return tau, low, high
