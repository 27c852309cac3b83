"""Find the Pareto front of results: scores against a cost."""

from __future__ import annotations

from collections.abc import Sequence


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
