"""The one kind of mistake that has to do with training and scoring supernets."""

from __future__ import annotations

from search_spaces.errors import ProblemsError


class OneShotError(ProblemsError):
    """Options, a loader, a checkpoint or paths do not fit."""
