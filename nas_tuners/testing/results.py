"""Check what a search makes of results: late ones, useless ones, none at all."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from nas_tuners.search.base import Search
from nas_tuners.search.records import Proposal
from nas_tuners.testing.driving import Make, as_reported, history, ready, score
from nas_tuners.testing.expecting import expect, expect_error, expect_same, reporting

_NO_NUMBERS: tuple[Any, ...] = ("0.9", [0.9], None, True, {}, {"accuracy": 0.9}, {"default": "0.9"}, {"default": None})
_STRANGERS: tuple[Any, ...] = (0, -1, 99, None, "0", True)


@reporting
def check_any_order(make: Make) -> None:
    """Take results in any order, or never."""
    search, rng = ready(make), np.random.default_rng(0)
    told: list[float] = []
    for _ in range(20):
        search.ask(3)
        for at in rng.permutation(len(search.pending))[:2].tolist():
            proposal = search.pending[min(at, len(search.pending) - 1)]
            told.append(score(proposal.tokens))
            search.tell(proposal.uid, as_reported(search, told[-1]))
    counts = search.counts
    expect("number of results out of order", counts.told, len(told))
    expect("asked less told: pending", counts.pending, counts.asked - len(told))
    expect("best score of results out of order", search.best and search.best.score, max(told, default=None))
    expect("scores that belong to their own architecture", *_scores_of(search))


@reporting
def check_unusable(make: Make) -> None:
    """Count NaN, infinities and failures as failed trials, never as the best."""
    search = ready(make)
    for value in (math.nan, math.inf, -math.inf, 3.0, math.nan, -4.0):
        search.tell(_next(search).uid, as_reported(search, value))
    search.fail(_next(search).uid, "crashed")
    expect("best of 3, -4, NaN, infinities and a failure", search.best and search.best.score, 3.0)
    expect("results and failures", (search.counts.told, search.counts.failed), (2, 5))


@reporting
def check_failures(make: Make) -> None:
    """Go on when every trial fails, without a best."""
    search = ready(make)
    for _ in range(30):
        for proposal in search.ask():
            search.fail(proposal.uid)
    expect("best of failures", search.best, None)
    expect("whether it goes on after failures", bool(search.ask()) or search.finished, True)


@reporting
def check_stopped(make: Make) -> None:
    """Never take a trial that was stopped early for the best."""
    search = ready(make)
    first, second = _next(search), _next(search)
    search.tell(first.uid, as_reported(search, 9.0), resource=3)
    search.tell(second.uid, as_reported(search, 1.0))
    history(search, 10, sign=-1.0)
    expect("best of 1, and of 9 that was stopped early", search.best and search.best.score, 1.0)
    search.tell(first.uid, as_reported(search, 9.0))
    expect("best, once the whole result 9 has come", search.best and search.best.score, 9.0)


@reporting
def check_intermediate(make: Make) -> None:
    """Never take an intermediate result for the best, and stop for good."""
    search = ready(make)
    first, second = _next(search), _next(search)
    goes_on = search.report(first.uid, as_reported(search, 9.0), 1, stop=False)
    expect("whether a trial that is not stopped goes on", goes_on, True)
    expect("best of 9 on the way", search.best, None)
    expect("whether a stopped trial goes on", search.report(second.uid, as_reported(search, 9.0), 2, stop=True), False)
    expect("the same at its next result", search.report(second.uid, as_reported(search, 9.0), 3), False)
    search.tell(first.uid, as_reported(search, 1.0))
    expect("best of 1, and of 9 on the way", search.best and search.best.score, 1.0)
    counts = search.counts
    expect("results, stopped and pending trials", (counts.told, counts.stopped, counts.pending), (1, 1, 0))


@reporting
def check_late_results(make: Make) -> None:
    """Take a result after a failure, and only the first of two results."""
    search = ready(make)
    proposal = _next(search)
    search.fail(proposal.uid, "no sign of life")
    expect("whether a result after a failure counts", search.tell(proposal.uid, as_reported(search, 2.0)), True)
    expect("whether a second result counts", search.tell(proposal.uid, as_reported(search, 9.0)), False)
    expect("whether a failure after a result counts", search.fail(proposal.uid), False)
    counts = search.counts
    expect("results, failures, second results", (counts.told, counts.failed, counts.duplicate), (1, 0, 1))
    expect("best score", search.best and search.best.score, 2.0)


@reporting
def check_strangers(make: Make) -> None:
    """Refuse results for what it never proposed."""
    search = ready(make)
    for uid in _STRANGERS:
        expect_error(f"a result for the uid {uid!r}", partial(search.tell, uid, 1.0), ValueError)
        expect_error(f"a failure of the uid {uid!r}", partial(search.fail, uid), ValueError)
    expect("number of trials", (len(search.trials), search.counts.asked), (0, 0))


@reporting
def check_metrics(make: Make) -> None:
    """Refuse metrics that are no numbers, and keep all others."""
    search = ready(make)
    proposal = _next(search)
    for metrics in _NO_NUMBERS:
        expect_error(f"the metrics {metrics!r}", partial(search.tell, proposal.uid, metrics), ValueError)
    expect("results and pending trials", (search.counts.told, search.counts.pending), (0, 1))
    names = search.arguments.get("objectives") or {}
    reported = {**dict.fromkeys([*names, search.score_key], np.float32(0.5)), "seconds": 7}
    search.tell(proposal.uid, reported)
    kept = None if search.best is None else {name: search.best.metrics.get(name) for name in reported}
    expect("metrics that it keeps", kept, reported)


@reporting
def check_minimize(make: Make) -> None:
    """Minimize as it maximizes the negated scores."""
    if make().arguments.get("objectives"):  # which say themselves what is minimized
        return
    up, down = ready(make), ready(make, optimize_mode="minimize")
    expect_same("proposals of scores to minimize, against negated ones", history(down, 40, -1.0), history(up, 40))
    best = None if up.best is None else -up.best.score
    expect("best score to minimize", down.best and down.best.score, best)


def _next(search: Search) -> Proposal:
    """Ask for one architecture. Raises AssertionError if there is none."""
    proposals = search.ask()
    expect("number of proposals of ask()", len(proposals), 1)
    return proposals[0]


def _scores_of(search: Search) -> tuple[list[float], list[float]]:
    """Return the scores that a search keeps of its results, and those that it was told."""
    told = [trial for trial in search.trials.values() if trial.state == "told"]
    return [trial.score for trial in told], [score(trial.tokens) for trial in told]
