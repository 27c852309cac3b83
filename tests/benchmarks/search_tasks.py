"""What to search: tables of real networks, and a model of this project's own table."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import search_spaces
from mutators import search_space_of
from nas_tuners.testing.tasks import Evaluate, Task
from search_spaces import Space
from search_spaces.cost import CostTable
from tests.benchmarks.nas_bench_fashion.table import read_table


def tables(folder: Path) -> Iterator[Task]:
    """The tables in ``folder``: ``tables.py`` with the classes ``Macro`` and ``GraphCora``, and their space files."""
    module = load_tables(folder)
    macro, graph = module.Macro(), module.GraphCora()
    space = Space.load(folder / "nas_bench_macro.json")
    yield _fixed("macro", space, macro.query, 93.1267)
    yield Task(
        "macro, one seed seen",
        space,
        lambda seed: lambda choices: float(macro.query(choices, f"acc{seed % 3}")),
        lambda seed: macro.query,
        lambda seed: 93.1267,
    )
    limits = {"constraints": {"macs": 60e6}, "cost_table": macro_costs(space, macro)}
    yield _fixed("macro, flops <= 60M", space, macro.query, 92.5667, limits)
    yield _fixed("cora", Space.load(folder / "nas_bench_graph.json"), graph.query, 0.8313)


def load_tables(folder: Path) -> Any:
    """Import ``tables.py``."""
    spec = importlib.util.spec_from_file_location("tables", folder / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def macro_costs(space: Space, macro: Any) -> CostTable:
    """The column ``flops`` as a sum over the layers, checked on every network."""
    cost = {key: tuple(map(int, key)) for key in macro.rows}
    flops = {tokens: float(macro.rows[key]["flops"]) for key, tokens in cost.items()}
    none = (0,) * 8
    options = {
        key: [flops[(*none[:i], option, *none[i + 1 :])] - flops[none] for option in range(3)]
        for i, key in enumerate(space.keys)
    }
    costs = CostTable(space, {"macs": flops[none]}, {"macs": options})
    every = np.array(list(flops))
    assert np.allclose(costs.costs("macs", every), list(flops.values()), rtol=1e-6)
    return costs


def own_table() -> Task:
    """All networks of NAS-Bench-Fashion, by trees that were fitted to the 400 trained ones; each training is noisy."""
    from sklearn.ensemble import ExtraTreesRegressor

    table = read_table()
    space = Space.from_json(search_space_of(search_spaces.build("nas_bench_fashion")))
    fitted = ExtraTreesRegressor(300, random_state=0).fit(_one_hot(table.tokens, space), table.truth)
    every = space.every()
    worth = dict(zip(map(tuple, every.tolist()), fitted.predict(_one_hot(every, space)).tolist(), strict=True))
    best = max(worth.values())

    def sees(seed: int) -> Evaluate:
        drawn = np.random.default_rng(seed).normal(scale=table.noise(), size=len(every)).tolist()
        seen = {tokens: value + error for (tokens, value), error in zip(worth.items(), drawn, strict=True)}
        return lambda choices: seen[space.encode(choices)]

    return Task("fashion", space, sees, lambda seed: lambda choices: worth[space.encode(choices)], lambda seed: best)


def _fixed(name: str, space: Space, query: Evaluate, optimum: float, limits: Any = None) -> Task:
    return Task(name, space, lambda seed: query, lambda seed: query, lambda seed: optimum, limits or {})


def _one_hot(rows: Any, space: Space) -> Any:
    return np.concatenate([np.eye(radix)[rows[:, at]] for at, radix in enumerate(space.radices)], axis=1)
