"""What can be chosen: search spaces as data, and nets by name. Importing it costs no torch."""

from search_spaces.phases import Phase, PhaseError
from search_spaces.registry import NetError, Reference, build, input_shape, names, references
from search_spaces.schedule import Schedule
from search_spaces.schema import Choices, Space, SpaceError, Tokens
from search_spaces.shrinking import MIT_PHASES, progressive

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
    "input_shape",
    "names",
    "progressive",
    "references",
]
