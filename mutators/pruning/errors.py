"""The one kind of mistake that has to do with pruning."""

from __future__ import annotations

from search_spaces.errors import ProblemsError


class PruningError(ProblemsError):
    """Options, a skip function, a model or a state do not fit."""
