"""Search spaces that a search is checked in: every kind of decision, small and large, flat and nested."""

from __future__ import annotations

from functools import cache
from typing import Any

from search_spaces import Space


def layer(*names: str, when: Any = None) -> dict[str, Any]:
    """Return the entry of a layer choice."""
    return {"_type": "layer_choice", "_value": list(names), **({} if when is None else {"_when": when})}


def stage(depth: int, *operations: str) -> dict[str, Any]:
    """Return a space of 0 to ``depth`` blocks in a row; the key is no elastic one, so that nothing shrinks."""
    depths = [str(d) for d in range(depth + 1)]
    blocks = {f"block{i}": layer(*operations, when={"length": depths[i + 1 :]}) for i in range(depth)}
    return {"length": layer(*depths), **blocks}


def inputs(n_chosen: Any, *candidates: str, when: Any = None) -> dict[str, Any]:
    """Return the entry of an input choice."""
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
"""Space files by name; a new line is searched by every search that is checked. No key is elastic: nothing shrinks."""

WIDE = "20 x 4"


@cache
def named_space(name: str = WIDE) -> Space:
    """Return a space of :data:`SPACES`; by default one of 10^12 architectures, which no search exhausts."""
    return Space.from_json(SPACES[name])
