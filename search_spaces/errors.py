"""Errors that list all problems at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One problem: where it is, what was got, what was wanted."""

    path: str
    got: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.path}: got {self.got}, wanted {self.wanted}"


def place(key: object) -> str:
    """Return a key of a space as the place of a problem."""
    return f"key {shorten(key)}"


def shorten(value: object, most: int = 60) -> str:
    """Return the repr of a value in one line of at most so many characters, also where it has none.

    >>> shorten([0] * 100, most=20)
    '[0, 0, 0, 0, 0, 0...'
    >>> shorten(10**5000)
    'an int without a repr'
    """
    try:
        text = " ".join(repr(dict(value) if isinstance(value, dict) else value).split())
    except Exception:  # of the user's class; an int of too many digits; a list of too many levels
        kind = type(value).__name__
        return f"{'an' if kind[:1] in 'aeio' else 'a'} {kind} without a repr"
    return text if len(text) <= most else f"{text[: most - 3]}..."


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


def printable(text: str) -> str:
    """Return a text in which characters that a terminal would obey, all but line ends and tabs, are written as escapes.

    >>> printable("red: \\x1b[31m")
    'red: \\\\x1b[31m'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
