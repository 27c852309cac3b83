"""Measure a model: multiply-adds, parameters, latency; and fill cost tables with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from mutators.costs.count import count_macs as count_macs
    from mutators.costs.count import count_params as count_params
    from mutators.costs.count import macs_by_module as macs_by_module
    from mutators.costs.latency import latency_of as latency_of
    from mutators.costs.latency_table import measure_latency as measure_latency
    from mutators.costs.measure import measure_cost as measure_cost

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".count": (
            "count_macs",
            "count_params",
            "macs_by_module",
        ),
        ".latency": ("latency_of",),
        ".latency_table": ("measure_latency",),
        ".measure": ("measure_cost",),
    },
)
