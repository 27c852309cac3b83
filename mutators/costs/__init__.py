"""Measure a model: multiply-adds, parameters, latency; and fill cost tables with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from mutators.costs.count import count_macs as count_macs
    from mutators.costs.count import count_params as count_params
    from mutators.costs.count import macs_by_module as macs_by_module
    from mutators.costs.latency import latency_of as latency_of
    from mutators.costs.measure import measure_cost as measure_cost
    from mutators.costs.measure_latency import measure_latency as measure_latency

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "count": (
            "count_macs",
            "count_params",
            "macs_by_module",
        ),
        "latency": ("latency_of",),
        "measure": ("measure_cost",),
        "measure_latency": ("measure_latency",),
    },
)
