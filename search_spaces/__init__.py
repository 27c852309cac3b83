"""What can be chosen: search spaces as data, and nets by name. Importing it costs no torch."""

from search_spaces.registry import NetError, Reference, build, input_shape, names, references
from search_spaces.schema import Choices, Space, SpaceError, Tokens
from search_spaces.token_codec import choices_of, initial_tokens, space_of, tokens_of
from search_spaces.token_cost import cost_factors, cost_table_of

__all__ = [
    "Choices",
    "NetError",
    "Reference",
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
    "references",
    "space_of",
    "tokens_of",
]
