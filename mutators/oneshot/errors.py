"""The one kind of mistake that has to do with training and scoring supernets."""

from __future__ import annotations

from collections.abc import Sequence


class OneShotError(ValueError):
    """Options, a loader, a checkpoint or paths do not fit. ``problems`` lists all that is wrong."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = list(problems)
        super().__init__(message + "".join(f"\n  {problem}" for problem in self.problems))
