"""Run trials on a Ray cluster: those of ``nas run --on ray``, and those of ``ray.tune``. Names load on first use."""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(__name__)
