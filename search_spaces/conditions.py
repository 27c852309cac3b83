"""Which keys of a space matter only under others: evaluate it, count distinct architectures, and draw from them.

A key has a condition if it is a choice inside another choice. It is *active* where one of its clauses holds: where each
key that the clause names is active and has one of the options listed. An encoding is *canonical* if every key that is
not active has token 0; so each architecture has one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

import numpy as np
import numpy.typing as npt

from search_spaces.counting import IntArray, Name, Walk

Mask = npt.NDArray[np.bool_]
Clause = Mapping[int, frozenset[int]]
"""By position of a key, the tokens of which it has to have one."""

_MOST_TABLE = 2**16  # options of a key that are looked up in a table
_MOST_CELLS = 2**20  # of a gate


def find_cycle(parents: Mapping[str, Collection[str]]) -> list[str] | None:
    """Return keys of which each is a condition of the next, the last one the first again; None if there are none."""
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return None


@dataclass
class _Group:
    """Keys with the same condition."""

    clauses: tuple[Clause, ...]
    members: list[int] = field(default_factory=list)


class Conditions:
    """The conditions of the keys of a space, given by position: any of a key's clauses makes it active.

    Args:
        radices: the number of options of each key.
        clauses: of the keys that have conditions, without cycles. Neither clauses nor options repeat.

    Attributes:
        positions: of the keys that have conditions.
        order: of all keys, each after those that its condition names.
    """

    def __init__(self, radices: Sequence[int], clauses: Mapping[int, Sequence[Clause]]) -> None:
        self._radices = np.array(radices, dtype=np.int64)
        parents = {key: sorted({p for clause in own for p in clause}) for key, own in clauses.items()}
        self.positions = tuple(sorted(clauses))
        self.order = _parents_first(len(radices), parents)
        groups: dict[Name, _Group] = {}
        for key in self.order:
            if key in clauses:
                name = frozenset(frozenset(clause.items()) for clause in clauses[key])
                groups.setdefault(name, _Group(tuple(clauses[key]))).members.append(key)
        self._groups = list(groups.values())
        self._group_of = {key: group for group in self._groups for key in group.members}
        self._parents = parents
        self._names = list(groups)
        self._tables: dict[tuple[int, frozenset[int]], Mask] = {}  # which options are among those listed

    @cached_property
    def _walk(self) -> Walk:
        members = [group.members for group in self._groups]
        return Walk([int(radix) for radix in self._radices], self.order, self._names, members)

    @cached_property
    def size(self) -> int:
        """Return the number of canonical encodings. Raises EntangledError if there are too many to be counted."""
        return self._walk.count()

    def active(self, rows: IntArray) -> Mask:
        """Return which keys matter. (n, keys) tokens to (n, keys)."""
        found = np.ones(rows.shape, dtype=np.bool_)
        for group in self._groups:
            found[:, group.members] = self._hold(group, rows, found)[:, None]
        return found

    def active_in(self, tokens: Sequence[int | None]) -> list[bool]:
        """Return which keys of one architecture matter, also where some tokens are not known: those fulfil nothing."""
        found = [True] * len(tokens)
        for group in self._groups:
            if not any(all(found[p] and tokens[p] in options for p, options in c.items()) for c in group.clauses):
                for member in group.members:
                    found[member] = False
        return found

    def _hold(self, group: _Group, rows: IntArray, active: Mask) -> Mask:
        """Return where a condition holds, given which of its keys are active. Returns: (n,)."""
        found: Mask | None = None
        for clause in group.clauses:
            every: Mask | None = None
            for key, options in clause.items():
                fits = self._is_in(rows[:, key], key, options)
                if key in self._group_of:
                    fits = fits & active[:, key]
                every = fits if every is None else every & fits
            found = every if found is None or every is None else found | every
        assert found is not None
        return found

    def _is_in(self, tokens: IntArray, key: int, options: frozenset[int]) -> Mask:
        if self._radices[key] > _MOST_TABLE:
            return np.isin(tokens, list(options))
        table = self._tables.get((key, options))
        if table is None:
            table = self._tables[key, options] = np.zeros(self._radices[key], dtype=np.bool_)
            table[list(options)] = True
        return np.asarray(table[tokens])

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Draw ``n`` canonical encodings, uniformly and independently. Returns: (n, keys)."""
        rows = rng.integers(0, self._radices, size=(n, len(self._radices)))
        assert self.size
        self._walk.draw(rng, rows)
        return rows * self.active(rows)

    def every(self) -> IntArray:
        """Return all canonical encodings; only for a small ``size``. Returns: (size, keys)."""
        rows = np.zeros((1, len(self._radices)), dtype=np.int64)
        active = np.ones(rows.shape, dtype=np.bool_)
        for key in self.order:
            if key in self._group_of:
                active[:, key] = self._hold(self._group_of[key], rows, active)
            times = np.where(active[:, key], self._radices[key], 1)
            first = np.repeat(np.cumsum(times) - times, times)
            rows, active = np.repeat(rows, times, axis=0), np.repeat(active, times, axis=0)
            rows[:, key] = np.arange(len(rows)) - first
        return rows

    def gate(self, keys: Collection[int]) -> tuple[tuple[int, ...], Mask] | None:
        """Return where those of ``keys`` are active whose conditions name keys outside of ``keys``.

        Returns: all keys that this hangs on, and a mask with an axis for each; None for a mask of more than 2^20 cells.
        """
        on: set[int] = set()
        hanging = [key for key in keys if not set(self._parents.get(key, ())) <= set(keys)]
        left = list(hanging)
        while left:
            new = [p for p in self._parents.get(left.pop(), ()) if p not in on]
            on.update(new)
            left += new
        axes = tuple(sorted(on))
        if not axes:
            return (), np.array(True)
        shape = [int(self._radices[key]) for key in axes]
        if math.prod(shape) > _MOST_CELLS or len(axes) > 32:
            return None
        rows = np.zeros((math.prod(shape), len(self._radices)), dtype=np.int64)
        rows[:, list(axes)] = np.indices(shape).reshape(len(axes), -1).T
        return axes, np.asarray(self.active(rows)[:, hanging].all(axis=1)).reshape(shape)


def _parents_first(n: int, parents: Mapping[int, Sequence[int]]) -> list[int]:
    """Return the keys in their order, but each just after those that its condition names."""
    order: dict[int, None] = {}
    for key in range(n):
        stack = [key]
        while stack:
            missing = [p for p in parents.get(stack[-1], ()) if p not in order]
            if missing:
                stack += reversed(missing)
            else:
                order.setdefault(stack.pop())
    return list(order)
