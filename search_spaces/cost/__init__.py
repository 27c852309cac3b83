"""Tables of what architectures cost, and limits on them: pure numbers, no torch."""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    moved={
        "Latency": "mutators.costs.latency.Latency",
        "count_macs": "mutators.costs.count_macs",
        "count_params": "mutators.costs.count_params",
        "latency_of": "mutators.costs.latency.latency_of",
        "macs_by_module": "mutators.costs.count.macs_by_module",
        "measure_cost": "mutators.costs.measure_cost",
        "measure_latency": "mutators.costs.measure_latency",
    },
)
