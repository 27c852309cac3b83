"""Phases of a search space: the options that are open when."""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
