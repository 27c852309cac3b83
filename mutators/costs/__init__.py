"""Measure a model: multiply-adds, parameters, latency; and fill cost tables with them."""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
