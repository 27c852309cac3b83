"""Compare results in several objectives: nondominated fronts, crowding distance."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nas_tuners.search.records import Trial
from search_spaces import Space, Tokens
from search_spaces.checks import is_number, one_of
from search_spaces.cost.table import CostTable

MODES = ("maximize", "minimize")

_Array = npt.NDArray[np.float64]


class Objectives:
    """Read what results are worth in several objectives, each a metric to ``maximize`` or to ``minimize``.

    A metric that a trial does not report is looked up in the cost table.

    Args:
        given: by name, ``maximize`` or ``minimize``; two or more.
        table: what the options cost; None without one.

    Raises:
        ValueError: it is something else.
    """

    def __init__(self, given: object, table: CostTable | None = None) -> None:
        wanted = 'wanted two or more, such as {"default": "maximize", "macs": "minimize"}'
        if not isinstance(given, Mapping) or len(given) < 2:
            raise ValueError(f"objectives is {given!r}, {wanted}.")
        problems = [p for name, mode in given.items() for p in one_of(f"objectives[{name!r}]", mode, MODES)]
        if problems:
            raise ValueError("; ".join(problems) + ".")
        self.modes: dict[str, str] = dict(given)
        self.names = tuple(self.modes)
        self.signs = np.array([1.0 if mode == "maximize" else -1.0 for mode in self.modes.values()])
        self.table = table

    @property
    def known(self) -> tuple[str, ...]:
        """Return the objectives that the cost table has."""
        return () if self.table is None else tuple(name for name in self.names if name in self.table.metrics)

    def arranged(self, space: Space) -> Objectives:
        """Return the same for a space, whose keys the cost table may have in another order."""
        return Objectives(self.modes, None if self.table is None else self.table.arranged(space))

    def read(self, metrics: Mapping[str, Any], tokens: Tokens) -> tuple[float, ...]:
        """Return the value of each objective, as reported, or else from the cost table.

        Raises:
            ValueError: one is not there, or no finite number.
        """
        values = []
        for name in self.names:
            value = metrics.get(name)
            if value is None and self.table is not None and name in self.table.metrics:
                value = self.table.cost(name, tokens)
            if not is_number(value) or not math.isfinite(value):
                raise ValueError(
                    f"the objective {name!r} is {value!r}, wanted a number: report it, or give a cost_table that has it"
                )
            values.append(float(value))
        return tuple(values)

    def values(self, trials: Iterable[Trial]) -> list[tuple[Trial, tuple[float, ...]]]:
        """Return the results that count, and their values as reported."""
        found = []
        for trial in trials:
            if trial.state == "told" and not trial.provisional and trial.violation == 0:
                with contextlib.suppress(ValueError):  # of a run without its cost table
                    found.append((trial, self.read(trial.metrics or {}, trial.tokens)))
        return found

    def front(self, trials: Iterable[Trial]) -> list[tuple[Trial, tuple[float, ...]]]:
        """Return the nondominated results and their values as reported, the best by the first objective first."""
        found = self.values(trials)
        if not found:
            return []
        values = self.signs * np.array([row for _, row in found])
        on = find_front(values)
        return [found[at] for at in on[np.argsort(-values[on, 0], kind="stable")].tolist()]


def find_front(values: _Array) -> npt.NDArray[np.int64]:
    """Return the indices of the nondominated points, ascending.

    Args:
        values: (n, objectives), more is better in all.

    >>> find_front(np.array([[1.0, 1.0], [3.0, 1.0], [1.0, 3.0]])).tolist()
    [1, 2]
    """
    left = np.argsort(-values.sum(axis=1), kind="stable")  # who beats another comes before it
    at = 0
    while at < len(left):
        current, others = left[at], values[left]
        beaten = (others <= values[current]).all(axis=1) & (others < values[current]).any(axis=1)
        left = left[~beaten]
        at = int(np.flatnonzero(left == current)[0]) + 1
    return np.sort(left)


def rank_fronts(values: _Array) -> npt.NDArray[np.int64]:
    """Sort points into fronts: 0 is nondominated, 1 is dominated by front 0 alone (Deb et al., 2002).

    Args:
        values: (n, objectives), more is better in all.

    >>> rank_fronts(np.array([[3.0, 1.0], [1.0, 3.0], [1.0, 1.0], [0.0, 0.0]])).tolist()
    [0, 0, 1, 2]
    """
    at_least = (values[None, :, :] >= values[:, None, :]).all(axis=2)
    beaten = at_least & ~at_least.T  # [i, j]: j is nowhere worse than i, and i is somewhere worse than j
    ranks = np.full(len(values), -1, dtype=np.int64)
    front = 0
    while (left := ranks < 0).any():
        ranks[left & ~(beaten & left).any(axis=1)] = front
        front += 1
    return ranks


def crowd(values: _Array, ranks: npt.NDArray[np.int64]) -> _Array:
    """Return the crowding distance of each point on its front; infinite at the ends (Deb et al., 2002).

    Args:
        values: (n, objectives).
        ranks: (n,), the front of each.

    >>> crowd(np.array([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0]]), np.zeros(3, dtype=int)).tolist()
    [inf, 2.0, inf]
    """
    apart = np.zeros(len(values))
    for rank in range(int(ranks.max(initial=-1)) + 1):
        members = np.flatnonzero(ranks == rank)
        for column in values[members].T:
            order = np.argsort(column, kind="stable")
            spread = column[order[-1]] - column[order[0]]
            apart[members[order[[0, -1]]]] = math.inf
            if spread > 0:
                apart[members[order[1:-1]]] += (column[order[2:]] - column[order[:-2]]) / spread
    return apart
