"""Tables of what architectures cost, and limits on them: pure numbers, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from search_spaces.cost.table import CostTable as CostTable
    from search_spaces.errors import CostError as CostError

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "..errors": ("CostError",),
        ".table": ("CostTable",),
    },
    moved={
        "Latency": "mutators.costs.latency.Latency",
        "count_macs": "mutators.costs.count_macs",
        "count_params": "mutators.costs.count_params",
        "latency_of": "mutators.costs.latency_of",
        "macs_by_module": "mutators.costs.macs_by_module",
        "measure_cost": "mutators.costs.measure_cost",
        "measure_latency": "mutators.costs.measure_latency",
    },
)
