"""What a search keeps: its trials, their metrics and their counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from search_spaces import Choices, Space, Tokens


class MetricError(ValueError):
    """What a trial reported is no number, and no dict with a number under ``default``."""


@dataclass(frozen=True, slots=True)
class InPhase:
    """Where a proposal was asked for, in a search that goes by phases: in which, from 0, of how many."""

    index: int
    of: int
    name: str

    @property
    def last(self) -> bool:
        """Whether scores count: those of earlier phases are not comparable."""
        return self.index >= self.of - 1

    def __str__(self) -> str:
        return f"phase {self.index + 1}/{self.of}, {self.name}"


@dataclass(slots=True)
class Trial:
    """What is known of one proposal. ``score``: higher is better, ``-inf`` for a failure, whatever is optimized."""

    uid: int
    tokens: Tokens
    space: Space
    phase: InPhase | None = None
    state: str = "pending"  # pending, told, failed, or dropped: no longer part of the space
    score: float = -math.inf
    metrics: Mapping[str, Any] | None = None
    reason: str | None = None
    job: str | None = None  # the host's name for whatever ran it
    resolved: int = -1  # the how-manieth result this was

    @property
    def provisional(self) -> bool:
        """Whether it is of a phase before the last: never the best, nothing to learn from, and free to be repeated."""
        return self.phase is not None and not self.phase.last

    @property
    def proposal(self) -> Proposal:
        """The same, to be evaluated."""
        return Proposal(self.uid, self.tokens, self.space, self.phase)


@dataclass(frozen=True, slots=True)
class Proposal:
    """An architecture to evaluate. ``choices`` are made on demand."""

    uid: int
    tokens: Tokens
    space: Space
    phase: InPhase | None = None

    @property
    def choices(self) -> Choices:
        return self.space.decode(self.tokens)

    @property
    def parameters(self) -> Choices:
        """What evaluates it gets: the choices, and its ``_phase`` where the search has phases."""
        return {**self.choices, **({} if self.phase is None else {"_phase": asdict(self.phase)})}


@dataclass(frozen=True, slots=True)
class Best:
    """The best architecture so far. ``score`` is the reported metric itself, also where that is minimized."""

    uid: int
    tokens: Tokens
    choices: Choices
    score: float
    metrics: Mapping[str, Any]


@dataclass(slots=True)
class Counts:
    """``asked`` = ``told`` + ``failed`` + ``pending`` + ``dropped``.

    ``duplicate``: results for a uid that had one; ``infeasible``: what the algorithm drew beyond the constraints.
    """

    asked: int = 0
    told: int = 0
    failed: int = 0
    duplicate: int = 0
    pending: int = 0
    dropped: int = 0
    infeasible: int = 0


def as_metrics(metrics: Any, score_key: str = "default") -> dict[str, Any]:
    """Return ``metrics`` as a dict with a float under ``score_key``; NaN and infinity are let through.

    A bare number is the score, whatever its key. Where there is no ``default`` beside the score, it is filled in.

    Raises:
        MetricError: it is neither a number nor such a dict.
    """
    kept = dict(metrics) if isinstance(metrics, Mapping) else {score_key: metrics}
    score, wanted = kept.get(score_key), f"wanted a number, or a dict with a number as {score_key!r}"
    if isinstance(score, (bool, np.bool_, str, bytes)) or score is None:
        raise MetricError(f"the metric is {metrics!r}, {wanted}.")
    try:
        kept[score_key] = float(score)
    except (TypeError, ValueError, OverflowError):
        raise MetricError(f"the metric is {metrics!r}, {wanted}.") from None
    kept.setdefault("default", kept[score_key])
    return kept
