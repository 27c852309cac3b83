"""What can be chosen: search spaces as data, and nets by name. Importing it costs no torch."""

from search_spaces.registry import NetError, Reference, build, input_shape, names, references
from search_spaces.schema import Choices, Space, SpaceError, Tokens

__all__ = [
    "Choices",
    "NetError",
    "Reference",
    "Space",
    "SpaceError",
    "Tokens",
    "build",
    "input_shape",
    "names",
    "references",
]
