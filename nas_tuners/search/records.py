"""Trials, their metrics and their counts: all that a search remembers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nas_tuners.search.json_values import to_json_value
from nas_tuners.search.noise import Estimate
from search_spaces import Choices, Space, Tokens
from search_spaces.checks import is_int
from search_spaces.errors import shorten
from search_spaces.resolve import reason_of


class SearchError(RuntimeError):
    """An algorithm failed, or proposed something outside of its space."""


class MetricError(ValueError):
    """A trial reported neither a number nor a dict with a number under ``default``."""


@dataclass(frozen=True, slots=True)
class InPhase:
    """The phase that a proposal was asked for in: its index, from 0, of how many."""

    index: int
    of: int
    name: str

    @property
    def last(self) -> bool:
        """Return whether this is the last phase: scores of earlier ones are not comparable, and do not count."""
        return self.index >= self.of - 1

    def __str__(self) -> str:
        return f"phase {self.index + 1}/{self.of}, {self.name}"


@dataclass(slots=True)
class Trial:
    """A proposal and its result. ``score``: higher is better, ``-inf`` for a failure, whatever is optimized."""

    uid: int
    tokens: Tokens
    space: Space
    phase: InPhase | None = None
    state: str = "pending"  # pending, told, stopped early, failed, or dropped: no longer part of the space
    score: float = -math.inf
    metrics: Mapping[str, Any] | None = None  # of a stopped one: the last ones that it reported
    reason: str | None = None
    job: str | None = None  # the host's name for whatever ran it
    resource: int | None = None  # how many intermediate results a stopped one had reported
    violation: float = 0.0  # how far a result is beyond the outcome constraints
    again: int | None = None  # the uid of the first result of this architecture, if this is a further one
    before: str | None = None  # the state of a dropped one, before
    resolved: int = -1  # the place of its result among all results, from 1

    @property
    def provisional(self) -> bool:
        """Return whether it is of a phase before the last: never the best, nothing to learn from, free to repeat."""
        return self.phase is not None and not self.phase.last

    @property
    def proposal(self) -> Proposal:
        """Return the proposal alone, to be evaluated."""
        return Proposal(self.uid, self.tokens, self.space, self.phase)

    def to_best(self, sign: float, estimate: Estimate | None = None) -> Best:
        """Return the trial as the best of its search, with the score as it was reported: ``sign`` times ours.

        ``estimate``: what its score is believed to be, of several results.
        """
        score = sign * (self.score if estimate is None else estimate.mean) + 0.0  # no negative zeros
        more = () if estimate is None else (estimate.error, estimate.results)
        return Best(self.uid, self.tokens, self.space.decode(self.tokens), score, self.metrics or {}, *more)


@dataclass(frozen=True, slots=True)
class Proposal:
    """An architecture to evaluate. ``choices`` are made on demand."""

    uid: int
    tokens: Tokens
    space: Space
    phase: InPhase | None = None

    @property
    def choices(self) -> Choices:
        """Return the choices, as a trial gets them."""
        return self.space.decode(self.tokens)

    @property
    def parameters(self) -> Choices:
        """Return the choices, and ``_phase`` where the search has phases: all that a trial gets."""
        return {**self.choices, **({} if self.phase is None else {"_phase": asdict(self.phase)})}


@dataclass(frozen=True, slots=True)
class Best:
    """The best architecture so far. ``score`` is the metric as reported, also where that is minimized.

    With ``noise`` the score is a posterior mean with a standard error, from so many results; the metrics are those of
    the first.
    """

    uid: int
    tokens: Tokens
    choices: Choices
    score: float
    metrics: Mapping[str, Any]
    error: float | None = None
    results: int = 1


@dataclass(slots=True)
class Counts:
    """Numbers of proposals: ``asked`` = ``told`` + ``stopped`` + ``failed`` + ``pending`` + ``dropped``.

    ``duplicate``: results for a uid that had one; ``infeasible``: what the algorithm drew beyond the constraints.
    """

    asked: int = 0
    told: int = 0
    stopped: int = 0
    failed: int = 0
    duplicate: int = 0
    pending: int = 0
    dropped: int = 0
    infeasible: int = 0

    @property
    def ended(self) -> int:
        """Return how many trials have ended, with a full result or not."""
        return self.told + self.stopped + self.failed


class Trials(dict[int, Trial]):
    """All trials of a search by uid, with their counts and the best of them."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        self.best: Trial | None = None  # the earliest among equals
        self._resolved = 0

    def find(self, uid: int) -> Trial:
        """Return a trial. Raises ValueError if no such uid was ever proposed."""
        trial = self.get(uid) if is_int(uid) else None
        if trial is None:
            raise ValueError(f"uid {uid!r} was never proposed here; {len(self)} were, from 0 up.")
        return trial

    def admit(self, tokens: Tokens, space: Space, phase: InPhase | None) -> Trial:
        """Begin a trial, under the next uid."""
        uid = len(self)
        trial = self[uid] = Trial(uid, tokens, space, phase)
        self.counts.asked += 1
        self.counts.pending += 1
        return trial

    def adopt_dropped(self, trial: Trial) -> None:
        """Take in a trial of another space under its own uid, which is the next."""
        self[trial.uid] = replace(trial, state="dropped", before=trial.before or trial.state)
        self.counts.asked += 1
        self.counts.dropped += 1

    def resolve(self, trial: Trial, state: str, score: float) -> None:
        """Give a trial its result, and keep it if it is the best of those that keep the outcome constraints."""
        before, counts = trial.state, self.counts
        setattr(counts, before, getattr(counts, before) - 1)
        setattr(counts, state, getattr(counts, state) + 1)
        self._resolved += 1
        trial.state, trial.score, trial.resolved = state, score, self._resolved
        counts_as_best = state == "told" and not trial.provisional and trial.violation == 0
        if counts_as_best and (self.best is None or score > self.best.score):
            self.best = trial


def failure_in(value: float) -> str | None:
    """Return why a score is none; None if it is a finite number."""
    return None if math.isfinite(value) else f"the metric is {value}"


def as_metrics(metrics: Any, score_key: str = "default") -> dict[str, Any]:
    """Return ``metrics`` as a dict with a float under ``score_key``; NaN and infinity are let through.

    A bare number is the score, whatever its key. Where there is no ``default`` beside the score, it is filled in.
    All else becomes plain JSON values: what a journal gives back equals what was told.
    Raises MetricError if it is neither a number nor such a dict, or something in it cannot be written as JSON.
    """
    wanted = f"wanted a number, or a dict with a number as {score_key!r}"
    try:
        given = dict(metrics) if isinstance(metrics, Mapping) else {score_key: metrics}
        score = given.get(score_key)
        if isinstance(score, (bool, np.bool_, str, bytes)) or score is None:
            raise TypeError
        number = float(score)
    except Exception:  # whatever the methods of the user's objects raise
        raise MetricError(f"the metric is {shorten(metrics, 200)}, {wanted}.") from None
    try:
        kept: dict[str, Any] = to_json_value({**given, score_key: number})
    except Exception as error:
        raise MetricError(f"the metrics {shorten(metrics, 200)} cannot be kept: {reason_of(error)}.") from None
    kept.setdefault("default", number)
    return kept
