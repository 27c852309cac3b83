"""Landscapes to measure searches on: NK landscapes (Kauffman and Levin, J. Theor. Biol. 1987), in which keys interact.

Differs: keys have several options; a key that does not matter contributes nothing; the best is known exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nas_tuners.testing.spaces import layer
from search_spaces import Choices, Space

Evaluate = Callable[[Choices], float | None]

_Rows = npt.NDArray[np.int64]
_Values = npt.NDArray[np.float64]
Factor = tuple[tuple[int, ...], _Values]
"""Variables, ascending, and a table with an axis for each."""
_OPTIONS = ("3x3", "5x5", "7x7", "skip")


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


def landscapes() -> list[Task]:
    """Return the tasks: two flat spaces of 10^12, and one of nested stages; each seed has a landscape of its own.

    Values of random architectures have a standard deviation of about 1.
    """
    flat = Space.from_json({f"key{i}": layer(*_OPTIONS) for i in range(20)})
    return [
        _make_task("landscape, 2 keys meet", flat, 1),
        _make_task("landscape, 3 keys meet", flat, 2),
        _make_task("nested landscape, 2 keys meet", nested_space(), 1),
    ]


def nested_space(stages: int = 3, most: int = 4) -> Space:
    """Return a space of stages, each of 1 to ``most`` blocks in a row: what is left out does not matter."""
    lengths = [str(length) for length in range(1, most + 1)]
    entries: dict[str, Any] = {}
    for stage in range(stages):
        entries[f"stage{stage}"] = layer(*lengths)
        for block in range(most):
            when = {"when": {f"stage{stage}": lengths[block:]}} if block else {}
            entries[f"stage{stage}.block{block}"] = layer(*_OPTIONS, **when)
    return Space.from_json(entries)


def _make_task(name: str, space: Space, neighbours: int) -> Task:
    made = cache(lambda seed: Landscape(space, neighbours, seed))

    def sees(seed: int) -> Evaluate:
        return lambda choices: float(made(seed).values(np.array([space.encode(choices)]))[0])

    return Task(name, space, sees, sees, lambda seed: made(seed).optimum)


class Landscape:
    """A sum over the keys of random numbers, each for a key's option and those of ``neighbours`` others.

    Attributes:
        optimum: the highest value of any architecture, exactly.
    """

    def __init__(self, space: Space, neighbours: int, seed: int) -> None:
        rng, keys = np.random.default_rng([seed, neighbours]), len(space.keys)
        self._space, self._scale = space, math.sqrt(keys)
        self._meet = [
            [at, *rng.choice([i for i in range(keys) if i != at], neighbours, replace=False).tolist()]
            for at in range(keys)
        ]
        self._parts = [rng.normal(size=[space.radices[at] for at in meet]) for meet in self._meet]
        self.optimum = find_maximum([self._factor(at) for at in range(keys)]) / self._scale

    def values(self, rows: _Rows) -> _Values:
        """Return what architectures are worth. (n, keys) to (n,)."""
        return np.asarray(sum(self._part(at, rows) for at in range(len(self._meet))) / self._scale)

    def _part(self, at: int, rows: _Rows) -> _Values:
        """Return what one key contributes. (n, keys) to (n,)."""
        known, active = self._space.canonical(rows), self._space.active(rows)
        part: _Values = active[:, at] * self._parts[at][tuple(known[:, self._meet[at]].T)]
        return part

    def _factor(self, at: int) -> Factor:
        """Return what one key contributes, as a table over all keys that it hangs on."""
        scope = sorted({other for key in self._meet[at] for other in self._above(key)})
        sizes = [self._space.radices[key] for key in scope]
        rows = np.zeros((math.prod(sizes), len(self._space.keys)), dtype=np.int64)
        rows[:, scope] = np.indices(sizes).reshape(len(scope), -1).T
        return tuple(scope), self._part(at, rows).reshape(sizes)

    def _above(self, key: int) -> set[int]:
        """Return a key, and those that decide whether it matters."""
        names = self._space.keys
        clauses = self._space.when.get(names[key], ())
        return {key}.union(*(self._above(names.index(other)) for clause in clauses for other in clause))


def find_maximum(factors: Sequence[Factor]) -> float:
    """Return the maximum of a sum of tables, exactly, by eliminating one variable after the other (Dechter, 1999).

    Args:
        factors: each a table and the variables of its axes, ascending. Few of them may meet in a table at a time.

    >>> float(find_maximum([((0, 1), np.array([[0.0, 3.0], [2.0, 0.0]])), ((1,), np.array([2.0, 0.0]))]))
    4.0
    """
    left = list(factors)
    while variables := {variable for scope, _ in left for variable in scope}:
        scopes = {one: {other for scope, _ in left if one in scope for other in scope} for one in variables}
        out = min(sorted(variables), key=lambda one: len(scopes[one]))
        scope = sorted(scopes[out])
        joined = sum(_spread(factor, scope) for factor in left if out in factor[0])
        left = [factor for factor in left if out not in factor[0]]
        left.append((tuple(one for one in scope if one != out), np.asarray(joined).max(axis=scope.index(out))))
    return float(sum(table.item() for _, table in left))


def _spread(factor: Factor, scope: Sequence[int]) -> _Values:
    """Return the table of a factor with an axis for each variable in a scope."""
    sizes = dict(zip(factor[0], factor[1].shape, strict=True))
    return factor[1].reshape([sizes.get(variable, 1) for variable in scope])
