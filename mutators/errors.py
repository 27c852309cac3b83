"""The one kind of mistake that has to do with choices."""

from __future__ import annotations

from collections.abc import Sequence


class ChoiceError(ValueError):
    """A choice in a model, or what should be applied to it, is wrong. ``problems`` lists all that is wrong.

    Differs: NNI 1.9 has a mix of ``AssertionError`` (gone under ``-O``), ``RuntimeError`` and ``ValueError``.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = list(problems)
        super().__init__(message + "".join(f"\n  {problem}" for problem in self.problems))
