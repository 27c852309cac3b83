"""Phases of a search space: the options that are open when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from search_spaces.errors import PhaseError as PhaseError
    from search_spaces.phases.phase import Phase as Phase
    from search_spaces.phases.shrinking import MIT_PHASES as MIT_PHASES
    from search_spaces.phases.shrinking import progressive as progressive

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "..errors": ("PhaseError",),
        ".phase": ("Phase",),
        ".shrinking": ("MIT_PHASES", "progressive"),
    },
)
