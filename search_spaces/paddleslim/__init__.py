"""Search spaces of PaddleSlim's SANAS: networks that a list of tokens describes."""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
