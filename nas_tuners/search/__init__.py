"""Search algorithms, ask and tell. They know neither NNI nor torch; each owns its seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from nas_tuners.search.annealing import Annealing as Annealing
    from nas_tuners.search.base import Search as Search
    from nas_tuners.search.evolution import Evolution as Evolution
    from nas_tuners.search.random import RandomSearch as RandomSearch
    from nas_tuners.search.records import SearchError as SearchError
    from nas_tuners.search.shrinking import Shrinking as Shrinking
    from search_spaces.errors import ConstraintError as ConstraintError

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".annealing": ("Annealing",),
        ".base": ("Search",),
        ".evolution": ("Evolution",),
        ".random": ("RandomSearch",),
        ".records": ("SearchError",),
        ".shrinking": ("Shrinking",),
        "search_spaces.errors": ("ConstraintError",),
    },
    moved={
        "Best": "nas_tuners.search.records.Best",
        "InPhase": "nas_tuners.search.records.InPhase",
        "MetricError": "nas_tuners.search.records.MetricError",
        "Proposal": "nas_tuners.search.records.Proposal",
    },
)
