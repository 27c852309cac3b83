"""Search: tuners that run under NNI, and the same searches without it. Names load on first use."""

from search_spaces.lazy import lazy_names

_LISTED, _load, _ = lazy_names(
    __name__,
    moved={
        "SANAS": "nas_tuners.sanas.SANAS",
        "SANASError": "nas_tuners.sanas.SANASError",
        "SearchFinished": "nas_tuners.sanas.SearchFinished",
    },
)


def __getattr__(name: str) -> object:
    """Load a public name: one of the stub's, or a tuner of the table of algorithms, which is read only when needed."""
    if name in _LISTED or not (name == "__all__" or name.endswith("Tuner")):
        return _load(name)
    from nas_tuners.search.algorithms import ALGORITHMS

    names = sorted({*_LISTED, *(algorithm.tuner for algorithm in ALGORITHMS.values())})
    if name == "__all__":
        return names
    if name not in names:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nas_tuners import tuners

    return getattr(tuners, name)


def __dir__() -> list[str]:
    return list(_LISTED)
