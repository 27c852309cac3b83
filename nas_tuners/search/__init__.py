"""Search algorithms, ask and tell. They know neither NNI nor torch; each owns its seed."""

from nas_tuners.search.annealing import Annealing
from nas_tuners.search.base import Best, MetricError, Proposal, Search
from nas_tuners.search.random import RandomSearch

__all__ = ["Annealing", "Best", "MetricError", "Proposal", "RandomSearch", "Search"]
