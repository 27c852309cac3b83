"""Errors that list all problems at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ProblemsError(ValueError):
    """Base of errors that list everything that is wrong with one thing.

    Args:
        message: one line.
        problems: each with its place, what was got and what was wanted; they follow the message, one a line.
    """

    def __init__(self, message: str, problems: Sequence[Any] = ()) -> None:
        self.problems = list(problems)
        super().__init__(message + "".join(f"\n  {problem}" for problem in self.problems))


class SpaceError(ProblemsError):
    """An invalid search space, or an architecture that does not fit it."""


class PhaseError(ProblemsError):
    """Phases that are malformed, or do not fit their space."""


class CostError(ProblemsError):
    """A cost table that is invalid, cannot be read, or is of another space."""


class NetError(ProblemsError):
    """A net that does not exist, or cannot be built like this."""


class ConstraintError(ProblemsError):
    """A constraint that is malformed, has no cost table, or cannot be met."""
