"""What can be wrong with an elastic network."""

from __future__ import annotations

from collections.abc import Sequence


class ElasticError(ValueError):
    """A layer, a model or a configuration does not fit. ``problems`` lists all that is wrong."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = list(problems)
        super().__init__(message + "".join(f"\n  {problem}" for problem in self.problems))
