"""Quantize weights and activations to a few bits, of which a search can choose the number, layer by layer."""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
