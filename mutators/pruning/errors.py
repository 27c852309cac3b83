"""The one kind of mistake that has to do with pruning."""

from __future__ import annotations

from collections.abc import Sequence


class PruningError(ValueError):
    """Options, a skip function, a model or a state do not fit. ``problems`` lists all that is wrong."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = list(problems)
        super().__init__(message + "".join(f"\n  {problem}" for problem in self.problems))
