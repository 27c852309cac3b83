"""Search: tuners that run under NNI, and the same searches without it. Names load on first use."""

from search_spaces.lazy import lazy_names

_load, __dir__ = lazy_names(
    __name__,
    moved={
        "SANAS": "nas_tuners.sanas.SANAS",
        "SANASError": "nas_tuners.sanas.SANASError",
        "SearchFinished": "nas_tuners.sanas.SearchFinished",
    },
)


def __getattr__(name: str) -> object:
    """Load a public name: one of the stub's, or a tuner of the table of algorithms, which is read only when needed."""
    if name != "__all__" and not name.endswith("Tuner"):
        return _load(name)
    from nas_tuners.search.algorithms import ALGORITHMS

    tuners = {algorithm.tuner for algorithm in ALGORITHMS.values()}
    if name == "__all__":
        return sorted({*__dir__(), *tuners})
    if name not in tuners:
        return _load(name)
    from nas_tuners import tuners as module

    return getattr(module, name)
