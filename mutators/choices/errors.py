"""The one kind of mistake that has to do with choices."""

from __future__ import annotations

from search_spaces.errors import ProblemsError


class ChoiceError(ProblemsError):
    """A choice in a model, or what should be applied to it, is wrong.

    Differs: NNI 1.9 has a mix of ``AssertionError`` (gone under ``-O``), ``RuntimeError`` and ``ValueError``.
    """
