"""Spaces for the conformance suites, a new one is one line in ``SPACES``; and strategies that draw any space."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st


def layer(*names: str, when: Any = None) -> dict[str, Any]:
    return {"_type": "layer_choice", "_value": list(names), **({} if when is None else {"_when": when})}


def stage(depth: int, *operations: str) -> dict[str, Any]:
    """Return a space of 0 to ``depth`` blocks in a row; the key is no elastic one, so that nothing shrinks."""
    depths = [str(d) for d in range(depth + 1)]
    blocks = {f"block{i}": layer(*operations, when={"length": depths[i + 1 :]}) for i in range(depth)}
    return {"length": layer(*depths), **blocks}


def inputs(n_chosen: Any, *candidates: str, when: Any = None) -> dict[str, Any]:
    value = {"candidates": list(candidates), "n_chosen": n_chosen}
    return {"_type": "input_choice", "_value": value, **({} if when is None else {"_when": when})}


SPACES: dict[str, dict[str, Any]] = {
    "one key": {"conv": layer("3x3", "5x5", "7x7")},
    "one architecture": {"conv": layer("3x3")},
    "20 x 4": {f"k{i}": layer("a", "b", "c", "d") for i in range(20)},
    "repeated and empty names": {"a": layer("x", "", "x"), "skip": inputs(1, "", "")},
    "one input of three": {"in": inputs(1, "a", "b", "c"), "op": layer("p", "q")},
    "two inputs of four": {"in": inputs(2, "a", "b", "c", "d"), "op": layer("p", "q")},
    "any number of inputs": {"in": inputs(None, "a", "b", "c"), "op": layer("p", "q")},
    "one to three inputs": {"in": inputs([1, 3], "a", "b", "c", "d"), "op": layer("p", "q")},
    "no input at all": {"in": inputs(0, "a", "b"), "op": layer("p", "q", "r")},
    "with hyper-parameters": {
        "op": layer("p", "q"),
        "lr": {"_type": "choice", "_value": [0.1, 0.01, 0.001]},
        "batch": {"_type": "randint", "_value": [4, 9]},
        "dropout": {"_type": "quniform", "_value": [0.05, 0.5, 0.1]},
    },
    "0 to 3 blocks": stage(3, "a", "b", "c", "d"),
    "nested twice, and in two places": {
        "block": layer("skip", "conv", "cell"),
        "kernel": layer("3", "5", "7", when={"block": ["conv"]}),
        "ops": inputs([0, 2], "a", "b", when={"block": ["cell"]}),
        "cell": layer("p", "q", when={"block": ["cell"]}),
        "inner": {"_type": "randint", "_value": [0, 4], "_when": {"cell": ["p"]}},
        "act": layer("relu", "gelu", when=[{"cell": ["q"]}, {"kernel": ["5", "7"]}]),
    },
    "nested as in NNI": {
        "layer": {
            "_type": "choice",
            "_value": [
                {"_name": "empty"},
                {"_name": "conv", "kernel": {"_type": "choice", "_value": [3, 5]}},
                {"_name": "pool", "size": {"_type": "quniform", "_value": [2, 4, 1]}},
            ],
        },
        "lr": {"_type": "choice", "_value": [0.1, 0.01]},
    },
    "ranges": {
        "op": layer("p", "q"),
        "lr": {"_type": "loguniform", "_value": [1e-4, 1e-1], "_levels": 4},
        "momentum": {"_type": "uniform", "_value": [0.5, 1.0], "_levels": 3},
        "hidden": {"_type": "qloguniform", "_value": [4.0, 100.0, 8.0], "_levels": 5},
        "drop": {"_type": "quniform", "_value": [0.0, 1.0, 0.1], "_levels": 3},
    },
    "values that are lists": {"betas": {"_type": "choice", "_value": [[0.9, 0.99], [0.8, 0.9], True, 1, None, "x"]}},
}

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
