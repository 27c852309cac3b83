"""Search spaces as data, and nets by name. Importing it costs no torch."""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    moved={
        "MIT_PHASES": "search_spaces.phases.shrinking.MIT_PHASES",
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
