"""Read what results are worth in several objectives, and find their front."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nas_tuners.search.model.fronts import find_front
from nas_tuners.search.records import Trial
from search_spaces import Space, Tokens
from search_spaces.checks import is_number, one_of
from search_spaces.cost.table import CostTable

MODES = ("maximize", "minimize")


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
