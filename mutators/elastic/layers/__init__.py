"""Layers that run in part: elastic kernels, widths, heads and depths."""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
