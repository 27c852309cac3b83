"""Search spaces as data, and nets by name. Importing it costs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from search_spaces.errors import NetError as NetError
    from search_spaces.errors import SpaceError as SpaceError
    from search_spaces.nets.registry import build as build
    from search_spaces.nets.registry import choices_of as choices_of
    from search_spaces.nets.registry import names as names
    from search_spaces.nets.registry import space_of as space_of
    from search_spaces.nets.registry import tokens_of as tokens_of
    from search_spaces.schema import Choices as Choices
    from search_spaces.schema import Space as Space
    from search_spaces.schema import Tokens as Tokens

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".errors": ("NetError", "SpaceError"),
        ".nets.registry": ("build", "choices_of", "names", "space_of", "tokens_of"),
        ".schema": ("Choices", "Space", "Tokens"),
    },
    moved={
        "MIT_PHASES": "search_spaces.phases.MIT_PHASES",
        "Phase": "search_spaces.phases.Phase",
        "PhaseError": "search_spaces.phases.PhaseError",
        "Reference": "search_spaces.reference.Reference",
        "Schedule": "search_spaces.phases.schedule.Schedule",
        "cost_factors": "search_spaces.paddleslim.costs.cost_factors",
        "cost_table_of": "search_spaces.paddleslim.cost_table_of",
        "initial_tokens": "search_spaces.paddleslim.initial_tokens",
        "input_shape": "search_spaces.nets.registry.input_shape",
        "progressive": "search_spaces.phases.progressive",
        "references": "search_spaces.nets.registry.references",
    },
)
