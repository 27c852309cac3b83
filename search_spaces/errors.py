"""Errors that list everything that is wrong at once, and those of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ProblemsError(ValueError):
    """Report all that is wrong with one thing.

    Args:
        message: what is wrong, in one line.
        problems: each with its place, what was got and what was wanted; they follow the message, one a line.
    """

    def __init__(self, message: str, problems: Sequence[Any] = ()) -> None:
        self.problems = list(problems)
        super().__init__(message + "".join(f"\n  {problem}" for problem in self.problems))


class SpaceError(ProblemsError):
    """A search space, or an architecture of it, is not valid."""


class PhaseError(ProblemsError):
    """Phases are malformed, or do not fit their space."""


class CostError(ProblemsError):
    """A cost table is not valid, cannot be read, or is of another space."""


class NetError(ProblemsError):
    """There is no net of this name, or it cannot be built like this."""


class ConstraintError(ProblemsError):
    """A constraint is malformed, has no cost table, or cannot be met."""
