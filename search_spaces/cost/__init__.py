"""Tables of what architectures cost, and limits on them: pure numbers, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from search_spaces.cost.table import CostTable as CostTable

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "table": ("CostTable",),
    },
    moved={
        "mutators.costs": (
            "count_macs",
            "count_params",
            "latency_of",
            "macs_by_module",
            "measure_cost",
            "measure_latency",
        ),
        "mutators.costs.latency": ("Latency",),
        "search_spaces.errors": ("CostError",),
    },
)
