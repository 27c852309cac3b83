"""What can be chosen: search spaces as data, and nets by name. Importing it costs no torch."""

from search_spaces.phases import Phase, PhaseError
from search_spaces.registry import NetError, Reference, build, input_shape, names, references
from search_spaces.schedule import Schedule
from search_spaces.schema import Choices, Space, SpaceError, Tokens
from search_spaces.shrinking import MIT_PHASES, progressive
from search_spaces.token_codec import choices_of, initial_tokens, space_of, tokens_of
from search_spaces.token_cost import cost_factors, cost_table_of

__all__ = [
    "MIT_PHASES",
    "Choices",
    "NetError",
    "Phase",
    "PhaseError",
    "Reference",
    "Schedule",
    "Space",
    "SpaceError",
    "Tokens",
    "build",
    "choices_of",
    "cost_factors",
    "cost_table_of",
    "initial_tokens",
    "input_shape",
    "names",
    "progressive",
    "references",
    "space_of",
    "tokens_of",
]
