"""Search algorithms, ask and tell. They know neither NNI nor torch; each owns its seed."""

from nas_tuners.search.annealing import Annealing
from nas_tuners.search.base import Search, SearchError
from nas_tuners.search.constraints import ConstraintError
from nas_tuners.search.evolution import Evolution
from nas_tuners.search.random import RandomSearch
from nas_tuners.search.records import Best, InPhase, MetricError, Proposal
from nas_tuners.search.shrinking import Shrinking

__all__ = [
    "Annealing",
    "Best",
    "ConstraintError",
    "Evolution",
    "InPhase",
    "MetricError",
    "Proposal",
    "RandomSearch",
    "Search",
    "SearchError",
    "Shrinking",
]
