"""Search: tuners that run under NNI, and the same searches without it. Names load on first use."""

from nas_tuners.search.algorithms import ALGORITHMS
from search_spaces.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    moved={
        "SANAS": "nas_tuners.sanas.SANAS",
        "SANASError": "nas_tuners.sanas.SANASError",
        "SearchFinished": "nas_tuners.sanas.SearchFinished",
    },
    more={algorithm.tuner: "nas_tuners.tuners" for algorithm in ALGORITHMS.values()},
)
