"""What architectures cost: ``macs``, ``params``, ``latency_ms``. Loads lazily: ``CostTable`` costs no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search_spaces.cost.count import count_macs, count_params, macs_by_module
    from search_spaces.cost.latency import Latency, latency_of
    from search_spaces.cost.measure import measure_cost
    from search_spaces.cost.measure_latency import measure_latency
    from search_spaces.cost.table import CostError, CostTable

__all__ = [
    "CostError",
    "CostTable",
    "Latency",
    "count_macs",
    "count_params",
    "latency_of",
    "macs_by_module",
    "measure_cost",
    "measure_latency",
]

_HOME = {
    "CostError": "table",
    "CostTable": "table",
    "Latency": "latency",
    "count_macs": "count",
    "count_params": "count",
    "latency_of": "latency",
    "macs_by_module": "count",
    "measure_cost": "measure",
    "measure_latency": "measure_latency",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
