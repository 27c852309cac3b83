"""Find the Pareto front of results: scores against a cost, and several objectives of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas_tuners.runs.run import Run
from nas_tuners.search.model.hypervolume import hypervolume
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


def objectives_of(run: Run, arguments: Mapping[str, Any]) -> Objectives | None:
    """Return the objectives of a search; None if it has one only.

    Args:
        run: as it was loaded from its journal.
        arguments: those of its search, in the header of the journal.
    """
    if not arguments.get("objectives"):
        return None
    try:
        return Objectives(arguments["objectives"], table_of(arguments.get("cost_table"))).arranged(run.space)
    except CostError:  # the file is gone, or of another space by now: what was reported is left
        return Objectives(arguments["objectives"])


def front_of(run: Run, arguments: Mapping[str, Any]) -> list[tuple[Trial, tuple[float, ...]]]:
    """Return the nondominated results of a search and their values; none if it has one objective only.

    Args: as of :func:`objectives_of`.
    """
    objectives = objectives_of(run, arguments)
    return [] if objectives is None else objectives.front(run.search.trials.values())


def measure_front(run: Run, arguments: Mapping[str, Any]) -> float | None:
    """Return the hypervolume of the front, as a share of the box between the worst and the best of all results.

    So it needs no reference point of the user's. None without a front.
    """
    objectives = objectives_of(run, arguments)
    every = [] if objectives is None else objectives.values(run.search.trials.values())
    if objectives is None or not every:
        return None
    values = objectives.signs * np.array([row for _, row in every])
    spread = values.max(axis=0) - values.min(axis=0)
    return hypervolume((values - values.min(axis=0)) / np.where(spread > 0, spread, 1.0), np.zeros(len(spread)))
