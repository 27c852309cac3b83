"""Sums of terms that depend on one or more keys each: for one architecture fast, for many at once, bit by bit alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Term = tuple[tuple[int, ...], FloatArray]
"""Positions of keys, and what their options cost together: (radix_1, ..., radix_k)."""


class Sum:
    """A fixed cost and terms, always added in the same order.

    Args:
        fixed: of every architecture.
        terms: in any order; those whose keys are all in another term are folded into it.
    """

    def __init__(self, fixed: float, terms: Sequence[Term]) -> None:
        self.fixed, self.terms = fixed, folded(terms)
        nested: list[list[Any]] = [[], [], [], []]
        self._wider: list[Any] = []
        for keys, costs in self.terms:
            if len(keys) <= len(nested):
                nested[len(keys) - 1].append((costs.tolist(), *keys))
            else:
                self._wider.append((costs.tolist(), keys))
        self._ones, self._twos, self._threes, self._fours = nested

    def one(self, tokens: Sequence[int]) -> float:
        """Return the cost of one architecture."""
        total = self.fixed
        for row, a in self._ones:
            total += row[tokens[a]]
        for row, a, b in self._twos:
            total += row[tokens[a]][tokens[b]]
        for row, a, b, c in self._threes:
            total += row[tokens[a]][tokens[b]][tokens[c]]
        for row, a, b, c, d in self._fours:
            total += row[tokens[a]][tokens[b]][tokens[c]][tokens[d]]
        for row, keys in self._wider:
            for key in keys:
                row = row[tokens[key]]
            total += row
        return total

    def many(self, tokens: npt.NDArray[Any]) -> FloatArray:
        """Return the costs of (n, keys) architectures. Returns: (n,)."""
        columns, total = np.ascontiguousarray(tokens.T), np.full(len(tokens), self.fixed)
        for keys, costs in self.terms:
            total += costs[tuple(columns[key] for key in keys)]
        return total


def folded(terms: Sequence[Term]) -> list[Term]:
    """Return fewer terms of the same sum, by the number of their keys, the keys of each ascending; zeros left out."""
    hosts: list[Term] = []
    for keys, costs in sorted(terms, key=lambda term: -len(term[0])):
        host = next((at for at, (others, _) in enumerate(hosts) if set(keys) <= set(others)), None)
        if host is not None:
            others, sums = hosts[host]
            hosts[host] = (others, sums + spread(keys, costs, others))
        elif costs.any():
            ascending = tuple(sorted(keys))
            hosts.append((ascending, np.array(spread(keys, costs, ascending), dtype=np.float64)))
    return sorted(hosts, key=lambda term: len(term[0]))


def spread(keys: Sequence[int], costs: FloatArray, wider: Sequence[int]) -> FloatArray:
    """Return ``costs`` with an axis for each key of ``wider``, of length 1 where they do not depend on it."""
    present = [key for key in wider if key in keys]
    turned = costs.transpose([keys.index(key) for key in present])
    return turned.reshape([costs.shape[keys.index(key)] if key in keys else 1 for key in wider])
