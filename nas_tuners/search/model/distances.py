"""Compute distances between architectures, key by key, for kernels.

Any two named options are equally far apart (Hutter et al., LION 2011); subsets by Jaccard's distance; options that have
an order by half of the first and half the difference of their places. Where a key does not matter, that is one option
more, as far from the others as two of them can be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_spaces import Space
from search_spaces.checks import is_number
from search_spaces.domains import ChoiceDomain, Domain, InputDomain, LayerDomain
from search_spaces.fixing import whole_of

_MOST_LEVELS = 64  # of a factor: of more options, neighbours in their order share a level, or there are several factors
_MOST_LISTED = 4096  # options that are looked at one by one

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Factor:
    """Map the tokens of a key, or a part of them, to a few levels.

    Attributes:
        at: the key's place in the space.
        divisor: neighbouring tokens that share a level.
        table: distances between any two levels, from 0 to 1, (levels, levels).
        lookup: by token, its level; None where that follows from ``divisor``.
    """

    at: int
    divisor: int
    table: FloatArray
    lookup: IntArray | None = None

    def read(self, tokens: IntArray) -> IntArray:
        """Return the levels of tokens of the key."""
        if self.lookup is not None:
            return self.lookup[tokens]
        return np.asarray(tokens // self.divisor % len(self.table))


class Distances:
    """Map the keys of a space to factors: sets of a few levels, with distances between them.

    Most keys are one factor. A key with many subsets is one for each candidate, one with many names one for each digit.

    Attributes:
        keys: how many keys have several options; the others make no difference.
        owners: by factor, the key that it is of, from 0 to ``keys - 1``.
        tables: by factor, the distances between its levels, (levels, levels); those of a key add up to at most 1.
        starts: by factor, the place of its first level among those of all factors.
        levels: of all factors together.
    """

    def __init__(self, space: Space) -> None:
        self._conditions = space.conditions
        free = [at for at, radix in enumerate(space.radices) if radix > 1]
        found = [list(_factors_of(at, whole_of(space.domains[space.keys[at]]))) for at in free]
        self._factors = [factor for factors in found for factor in factors]
        self.keys = len(free)
        self.owners = np.array([owner for owner, factors in enumerate(found) for _ in factors], dtype=np.int64)
        self.tables = [
            (factor.table if space.conditions is None else _with_absent(factor.table)) / len(factors)
            for factors in found
            for factor in factors
        ]
        ends = np.cumsum([0, *map(len, self.tables)], dtype=np.int64)
        self.starts, self.levels = ends[:-1], int(ends[-1])

    def read(self, rows: IntArray) -> IntArray:
        """Return the levels of architectures. (n, keys of the space) tokens to (n, factors)."""
        levels = np.empty((len(rows), len(self._factors)), dtype=np.int64)
        for place, factor in enumerate(self._factors):
            levels[:, place] = factor.read(rows[:, factor.at])
        if self._conditions is not None:
            active = self._conditions.active(rows)[:, [factor.at for factor in self._factors]]
            levels = np.where(active, levels, [len(table) - 1 for table in self.tables])
        return levels

    def one_hot(self, levels: IntArray) -> FloatArray:
        """Return levels as ones among zeros. (n, factors) to (n, levels)."""
        ones = np.zeros((len(levels), self.levels))
        np.put_along_axis(ones, levels + self.starts, 1.0, axis=1)
        return ones

    def between(self, levels: IntArray, others: IntArray) -> FloatArray:
        """Return the distance of each key between pairs of architectures. Twice (n, factors) to (keys, n)."""
        apart = np.zeros((self.keys, len(levels)))
        for place, (owner, table) in enumerate(zip(self.owners, self.tables, strict=True)):
            apart[owner] += table[levels[:, place], others[:, place]]
        return apart

    def weighted(self, weights: FloatArray, levels: IntArray) -> FloatArray:
        """Return the weighted distances of every level to architectures. (keys,), (n, factors) to (levels, n)."""
        parts = [
            weights[owner] * table[:, levels[:, place]]
            for place, (owner, table) in enumerate(zip(self.owners, self.tables, strict=True))
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(levels)))


def _factors_of(at: int, domain: Domain) -> Iterator[Factor]:
    radix = domain.radix
    places = _places_of(domain)
    if places is not None:
        levels = min(radix, _MOST_LEVELS)
        divisor = -(-radix // levels)
        levels = -(-radix // divisor)
        apart = np.abs(np.subtract.outer(np.arange(levels), np.arange(levels))) / max(levels - 1, 1)
        sorted_already = (places == np.arange(len(places))).all()
        yield Factor(at, divisor, (_different(levels) + apart) / 2, None if sorted_already else places // divisor)
    elif isinstance(domain, InputDomain) and domain.bounds != (1, 1) and radix <= _MOST_LEVELS:
        yield Factor(at, 1, _jaccard(_members_in(domain)))
    elif isinstance(domain, InputDomain) and domain.bounds != (1, 1) and radix <= _MOST_LISTED:
        for chosen in _members_in(domain).T:
            yield Factor(at, 1, _different(2), chosen.astype(np.int64))
    elif isinstance(domain, InputDomain) and domain.n_chosen is None:
        for bit in range(len(domain.candidates)):
            yield Factor(at, 1 << bit, _different(2))
    else:
        divisor = 1
        while divisor < radix:
            yield Factor(at, divisor, _different(min(_MOST_LEVELS, -(-radix // divisor))))
            divisor *= _MOST_LEVELS


def _places_of(domain: Domain) -> IntArray | None:
    """Return the rank of each option, by token; an empty array if tokens are in order; None if there is no order.

    Names that are numbers have one, as in an elastic network's kernel sizes.
    """
    if isinstance(domain, InputDomain):
        return None
    if isinstance(domain, LayerDomain):
        values = [_number_in(name) for name in domain.names]
    elif isinstance(domain, ChoiceDomain):
        values = [float(option) if is_number(option) else None for option in domain.options]
    else:
        return np.arange(0)
    if None in values or len(set(values)) < len(values):
        return None
    return np.argsort(np.argsort(np.array(values, dtype=np.float64)))


def _number_in(name: str) -> float | None:
    try:
        value = float(name)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _different(levels: int) -> FloatArray:
    return 1.0 - np.eye(levels)


def _members_in(domain: InputDomain) -> npt.NDArray[np.bool_]:
    """Return which candidates are in which subset, (subsets, candidates)."""
    chosen = np.zeros((domain.radix, len(domain.candidates)), dtype=np.bool_)
    for token in range(domain.radix):
        chosen[token, list(domain.members(token))] = True
    return chosen


def _jaccard(chosen: npt.NDArray[np.bool_]) -> FloatArray:
    """Return one less the share of common members; two empty sets are equal."""
    ones = chosen.astype(np.float64)
    common, sizes = ones @ ones.T, ones.sum(axis=1)
    union = sizes[:, None] + sizes - common
    return np.asarray(1.0 - np.divide(common, union, out=np.ones_like(union), where=union > 0))


def _with_absent(table: FloatArray) -> FloatArray:
    """Add a level that is at distance 1 from all others."""
    wider = np.pad(table, (0, 1), constant_values=1.0)
    wider[-1, -1] = 0.0
    return wider
