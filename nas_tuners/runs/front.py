"""Find the Pareto front of results: scores against a cost, and several objectives of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas_tuners.runs.run import Run
from nas_tuners.search.objectives import Objectives
from nas_tuners.search.records import Trial
from search_spaces.cost.limits import table_of
from search_spaces.errors import CostError


def pareto_front(costs: Sequence[float], values: Sequence[float], sign: float = 1.0) -> list[int]:
    """Return the indices of what nothing beats in both, the cheapest first; of equals the earliest.

    Args:
        costs: less is better.
        values: scores.
        sign: 1 where more is better, -1 where less is.

    >>> pareto_front([3, 1, 2, 2], [0.9, 0.5, 0.4, 0.8])
    [1, 3, 0]
    """
    kept: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -sign * values[i], i)):
        if not kept or sign * values[i] > sign * values[kept[-1]]:
            kept.append(i)
    return kept


def front_of(run: Run, arguments: Mapping[str, Any]) -> list[tuple[Trial, tuple[float, ...]]]:
    """Return the nondominated results of a search and their values; none if it has one objective only.

    Args:
        run: as it was loaded from its journal.
        arguments: those of its search, in the header of the journal.
    """
    if not arguments.get("objectives"):
        return []
    try:
        objectives = Objectives(arguments["objectives"], table_of(arguments.get("cost_table"))).arranged(run.space)
    except CostError:  # the file is gone, or of another space by now: what was reported is left
        objectives = Objectives(arguments["objectives"])
    return objectives.front(run.search.trials.values())
