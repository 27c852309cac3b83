"""Sums of terms that depend on one or more keys each: fast for one architecture, and equal to the last bit for many."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from search_spaces.schema import Space

FloatArray = npt.NDArray[np.float64]
Term = tuple[tuple[int, ...], FloatArray]
"""Positions of keys, and what their options cost together: (radix_1, ..., radix_k)."""

Scalar = TypeVar("Scalar", bound=np.generic)


class Sum:
    """A fixed cost and terms, always added in the same order; a term with all keys in another is folded into that."""

    def __init__(self, fixed: float, terms: Sequence[Term]) -> None:
        self.fixed, self.terms = fixed, fold_terms(terms)
        nested: list[list[Any]] = [[], [], [], []]
        self._wider: list[Any] = []
        for keys, costs in self.terms:
            if len(keys) <= len(nested):
                nested[len(keys) - 1].append((costs.tolist(), *keys))
            else:
                self._wider.append((costs.tolist(), keys))
        self._ones, self._twos, self._threes, self._fours = nested

    def add_one(self, tokens: Sequence[int]) -> float:
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

    def add_many(self, tokens: npt.NDArray[Any]) -> FloatArray:
        """Return the costs of (n, keys) architectures. Returns: (n,)."""
        total, joint = np.full(len(tokens), self.fixed), len(self._ones) < len(self.terms)
        columns = list(np.ascontiguousarray(tokens.T) if joint else tokens.T)  # a copy pays where they are read often
        for keys, costs in self.terms:
            total += costs[columns[keys[0]]] if len(keys) == 1 else costs[tuple(columns[key] for key in keys)]
        return total


def fold_terms(terms: Sequence[Term]) -> list[Term]:
    """Return fewer terms of the same sum, by the number of their keys, the keys of each ascending; zeros left out."""
    hosts: list[Term] = []
    with_key: dict[int, list[int]] = {}  # by key, the hosts that have it
    for keys, costs in sorted(terms, key=lambda term: -len(term[0])):
        host = next((at for at in with_key.get(keys[0], ()) if set(keys) <= set(hosts[at][0])), None)
        if host is not None:
            others, sums = hosts[host]
            hosts[host] = (others, sums + spread(keys, costs, others))
        elif costs.any():
            ascending = tuple(sorted(keys))
            for key in ascending:
                with_key.setdefault(key, []).append(len(hosts))
            hosts.append((ascending, np.array(spread(keys, costs, ascending), dtype=np.float64)))
    return sorted(hosts, key=lambda term: len(term[0]))


def spread(keys: Sequence[Hashable], costs: npt.NDArray[Scalar], wider: Sequence[Hashable]) -> npt.NDArray[Scalar]:
    """Return ``costs`` with an axis for each key of ``wider``, of length 1 where they do not depend on it."""
    present = [key for key in wider if key in keys]
    turned = costs.transpose([keys.index(key) for key in present])
    return turned.reshape([costs.shape[keys.index(key)] if key in keys else 1 for key in wider])


def gate_term(term: Term, space: Space, most: int) -> Term | None:
    """Return a term that is zero where one of its keys does not matter; None if it had more than ``most`` costs.

    A key whose condition names only other keys of the term is left alone: costs at its token 0 are those without it.
    """
    keys, costs = term
    if space.conditions is None or not costs.any():
        return term
    gate = space.conditions.gate(keys)
    if gate is None:
        return None
    if not gate[0]:
        return term
    wider = (*keys, *(key for key in gate[0] if key not in keys))
    if math.prod(space.radices[key] for key in wider) > most:
        return None
    return wider, spread(keys, costs, wider) * spread(gate[0], gate[1], wider)


def take_options(keys: Sequence[str], costs: FloatArray, at: Mapping[str, int]) -> FloatArray:
    """Return the costs at one option of some keys, whose axes then have length 1."""
    return costs[tuple(slice(at[key], at[key] + 1) if key in at else slice(None) for key in keys)]


def to_number(cost: float) -> float:
    """Return a plain int where the cost is one, so that the file shows multiply-adds to the unit."""
    return int(cost) if float(cost).is_integer() else float(cost)


def to_lists(costs: FloatArray) -> Any:
    """Return nested lists, with plain ints where the costs are whole."""
    cells = np.empty(costs.size, dtype=object)
    cells[:] = list(map(to_number, costs.ravel().tolist()))
    return cells.reshape(costs.shape).tolist()
