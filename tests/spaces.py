"""Strategies that draw any search space; and the spaces of ``nas_tuners.testing``, which every search is checked in."""

from __future__ import annotations

from hypothesis import strategies as st

from nas_tuners.testing.spaces import SPACES as SPACES
from nas_tuners.testing.spaces import inputs as inputs
from nas_tuners.testing.spaces import layer as layer
from nas_tuners.testing.spaces import stage as stage

_names = st.lists(st.text(max_size=3), min_size=1, max_size=5)
_n_chosen = st.one_of(
    st.none(), st.integers(0, 1), st.tuples(st.just(0), st.integers(0, 1)).map(list), st.just([1, 1]), st.just(1)
)
_ranges = st.builds(
    lambda kind, low, width, levels: {"_type": kind, "_value": [low, low + width], "_levels": levels},
    st.sampled_from(["uniform", "loguniform"]),
    st.floats(1e-6, 9),
    st.floats(0, 3),
    st.integers(2, 6),
)
_entries = st.one_of(
    _ranges,
    _names.map(lambda names: layer(*names)),
    st.builds(lambda n, names: inputs(n, *names), _n_chosen, _names),
    st.lists(st.integers(-5, 5), min_size=1, max_size=4, unique=True).map(lambda v: {"_type": "choice", "_value": v}),
    st.builds(lambda a, n: {"_type": "randint", "_value": [a, a + n]}, st.integers(-9, 9), st.integers(1, 6)),
    st.builds(
        lambda a, w, q: {"_type": "quniform", "_value": [a, a + w, q]},
        st.floats(-9, 9),
        st.floats(0, 3),
        st.floats(0.25, 2),
    ),
)
space_files = st.dictionaries(
    st.text(min_size=1, max_size=4).filter(lambda key: not key.startswith("_")), _entries, min_size=1, max_size=4
)
"""Valid search spaces of every type, as JSON objects."""

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
"""Anything that JSON5 can say, NaN and infinity too."""
