"""Phases of a search space: which options are open when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from search_spaces.phases.phase import Phase as Phase
    from search_spaces.phases.progressive import MIT_PHASES as MIT_PHASES
    from search_spaces.phases.progressive import progressive as progressive
    from search_spaces.phases.schedule import Schedule as Schedule

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "phase": ("Phase",),
        "progressive": (
            "MIT_PHASES",
            "progressive",
        ),
        "schedule": ("Schedule",),
    },
    moved={
        "search_spaces.errors": ("PhaseError",),
    },
)
