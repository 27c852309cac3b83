"""What can be chosen: search spaces as data. Pure Python and NumPy; importing it costs no torch."""

from search_spaces.schema import Choices, Space, SpaceError, Tokens

__all__ = ["Choices", "Space", "SpaceError", "Tokens"]
