"""Search algorithms, ask and tell. They know neither NNI nor torch; each owns its seed."""

from search_spaces.lazy import lazy_names

__getattr__, __dir__ = lazy_names(
    __name__,
    moved={
        "Best": "nas_tuners.search.records.Best",
        "InPhase": "nas_tuners.search.records.InPhase",
        "MetricError": "nas_tuners.search.records.MetricError",
        "Proposal": "nas_tuners.search.records.Proposal",
    },
)
