"""What to search: tables of real networks, a model of this project's own table, and landscapes of 10^10 to 10^12."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import search_spaces
from mutators import search_space_of
from search_spaces import Choices, Space
from search_spaces.cost import CostTable
from tests.benchmarks.nas_bench_fashion.table import read_table

Evaluate = Callable[[Choices], float | None]


@dataclass(frozen=True)
class Task:
    """A space and what its architectures score.

    Attributes:
        sees: what a search is told, by the seed of its run; None is a failure.
        counts: what its choices are worth, by the seed; ``optimum`` is the best of that.
        limits: arguments of a search that has to keep them.
    """

    name: str
    space: Space
    sees: Callable[[int], Evaluate]
    counts: Callable[[int], Evaluate]
    optimum: Callable[[int], float]
    limits: dict[str, Any] = field(default_factory=dict)


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


def landscapes(keys: int = 20, options: int = 4) -> Iterator[Task]:
    """NK landscapes (Kauffman and Levin, 1987): each key's part hangs on one or two others too; one for each seed."""
    space = Space.from_json(
        {f"key{i}": {"_type": "layer_choice", "_value": [f"op{j}" for j in range(options)]} for i in range(keys)}
    )
    for neighbours in (1, 2):
        made = lru_cache(None)(lambda seed, k=neighbours: Landscape(keys, options, k, seed))

        def sees(seed: int, made: Any = made) -> Evaluate:
            return lambda choices: float(made(seed).values(np.array([space.encode(choices)]))[0])

        yield Task(
            f"landscape, {neighbours + 1} keys meet", space, sees, sees, lambda seed, made=made: made(seed).optimum
        )


class Landscape:
    """A sum over the keys of random numbers, each for a key's option and those of some others."""

    def __init__(self, keys: int, options: int, neighbours: int, seed: int) -> None:
        rng = np.random.default_rng([seed, neighbours])
        self.keys, self.options = keys, options
        self._meet = [
            [at, *rng.choice([i for i in range(keys) if i != at], neighbours, replace=False)] for at in range(keys)
        ]
        self._parts = [rng.normal(size=(options,) * (neighbours + 1)) for _ in range(keys)]
        self.optimum = max(self._climb(rng) for _ in range(30))

    def values(self, rows: Any) -> Any:
        """(n, keys) to (n,)."""
        parts = (part[tuple(rows[:, meet].T)] for part, meet in zip(self._parts, self._meet, strict=True))
        return sum(parts) / math.sqrt(self.keys)

    def _climb(self, rng: np.random.Generator) -> float:
        """Climb, shake three keys and climb on from the better of the two, thirty times (iterated local search)."""
        top, most = self._summit(rng.integers(self.options, size=self.keys))
        for _ in range(30):
            shaken = top.copy()
            shaken[rng.choice(self.keys, 3, replace=False)] = rng.integers(self.options, size=3)
            other, value = self._summit(shaken)
            top, most = (other, value) if value > most else (top, most)
        return most

    def _summit(self, row: Any) -> tuple[Any, float]:
        at, option = np.divmod(np.arange(self.keys * self.options), self.options)
        while True:
            near = np.tile(row, (len(at), 1))
            near[np.arange(len(at)), at] = option
            values = self.values(near)
            if values.max() <= self.values(row[None])[0] + 1e-12:
                return row, float(values.max())
            row = near[values.argmax()]


def _fixed(name: str, space: Space, query: Evaluate, optimum: float, limits: Any = None) -> Task:
    return Task(name, space, lambda seed: query, lambda seed: query, lambda seed: optimum, limits or {})


def _one_hot(rows: Any, space: Space) -> Any:
    return np.concatenate([np.eye(radix)[rows[:, at]] for at, radix in enumerate(space.radices)], axis=1)
