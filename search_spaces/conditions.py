"""Which keys of a space matter only under others: evaluate it, count distinct architectures, and draw from them.

A key has a condition if it is a choice inside another choice. It is *active* where one of its clauses holds: where each
key that the clause names is active and has one of the options listed. An encoding is *canonical* if every key that is
not active has token 0; so each architecture has one.

Counting goes through the keys that conditions name, parents first. All that it has to remember on the way is what is
left of each condition, so it is fast where conditions are nested, and exact for any.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Clause = Mapping[int, frozenset[int]]
"""By position of a key, the tokens of which it has to have one."""

_MOST_STATES = 2**12  # at one step of the counting
_MOST_TABLE = 2**16  # options of a key that are looked up in a table
_MOST_CELLS = 2**20  # of a gate


class EntangledError(ValueError):
    """So many conditions hang together that their architectures cannot be counted."""


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
        groups: dict[frozenset[frozenset[tuple[int, frozenset[int]]]], _Group] = {}
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
    def _walk(self) -> _Walk:
        return _Walk([int(radix) for radix in self._radices], self.order, self._names, self._groups)

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
        """Return where all of ``keys`` are active, over all keys that this hangs on, one axis each.

        Returns None if it would have more than 2^20 cells.
        """
        on: set[int] = set()
        left = [key for key in keys if key in self._parents]
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
        return axes, np.asarray(self.active(rows)[:, list(keys)].all(axis=1)).reshape(shape)


_Literal = tuple[int, frozenset[int]]
_Rest = bool | frozenset[frozenset[_Literal]] | None
"""What is left of a condition: it holds, it does not, or clauses; None: it was settled, and nothing asks any more."""
_State = tuple[_Rest, ...]


@dataclass
class _Class:
    """Options of a key that conditions do not tell apart: ``tokens``, or all others than these."""

    tokens: IntArray
    rest: bool
    size: int

    def pick(self, lots: IntArray) -> IntArray:
        """Return the options of these numbers, each below ``size``."""
        if not self.rest:
            return self.tokens[lots]
        return np.asarray(lots + np.searchsorted(self.tokens - np.arange(len(self.tokens)), lots, "right"))


@dataclass
class _Step:
    """The options of one key, by what they make of the conditions.

    A move is a class, or the last one of all: the key is not active. ``counts`` are (states, moves): the architectures
    of a move, without what comes after.
    """

    key: int
    classes: list[_Class]
    counts: list[list[int]]
    after: list[list[int]]
    chances: npt.NDArray[np.float64] | None = None


class _Walk:
    """The way through all keys that conditions name."""

    def __init__(
        self,
        radices: Sequence[int],
        order: Sequence[int],
        names: Sequence[frozenset[frozenset[_Literal]]],
        groups: Sequence[_Group],
    ) -> None:
        self._names = names
        self._mentions: dict[int, list[int]] = {}
        for at, name in enumerate(names):
            for key in {key for clause in name for key, _ in clause}:
                self._mentions.setdefault(key, []).append(at)
        self._group_at = {key: at for at, group in enumerate(groups) for key in group.members}
        walked = [key for key in order if key in self._mentions]
        self._leaves = [math.prod(radices[k] for k in g.members if k not in self._mentions) for g in groups]
        self._last = {self._group_at[key]: key for key in walked if key in self._group_at}
        free = (k for k in order if k not in self._mentions and k not in self._group_at)
        self._total = math.prod(radices[key] for key in free)
        self._steps: list[_Step] = []
        states: dict[_State, int] = {tuple(names): 0}
        for key in walked:
            states = self._take(key, self._split(key, radices[key]), states)

    def _split(self, key: int, radix: int) -> list[_Class]:
        """Return the classes of a key's options."""
        clauses = (clause for at in self._mentions[key] for clause in self._names[at])
        told = {options for clause in clauses for other, options in clause if other == key}
        by_sets: dict[frozenset[frozenset[int]], list[int]] = {}
        for token in sorted(set().union(*told)):
            by_sets.setdefault(frozenset(options for options in told if token in options), []).append(token)
        found = [_Class(np.array(tokens, dtype=np.int64), False, len(tokens)) for tokens in by_sets.values()]
        named = np.array(sorted(set().union(*told)), dtype=np.int64)
        return [*found, _Class(named, True, radix - len(named))] if len(named) < radix else found

    def _take(self, key: int, classes: list[_Class], states: Mapping[_State, int]) -> dict[_State, int]:
        """Add the step of a key. Returns: the states after it, numbered."""
        new: dict[_State, int] = {}
        counts, after = [], []
        for state in states:
            on = key not in self._group_at or state[self._group_at[key]] is True
            moves = [int(option.tokens[0]) if not option.rest else -1 for option in classes] if on else []
            row, ways = [0] * (len(classes) + 1), [0] * (len(classes) + 1)
            for at, token in [*enumerate(moves), *([] if on else [(len(classes), None)])]:
                left, leaves = self._settle(state, key, token)
                row[at] = leaves * (1 if token is None else classes[at].size)
                ways[at] = new.setdefault(left, len(new))
            counts.append(row)
            after.append(ways)
            if len(new) > _MOST_STATES:
                raise EntangledError
        self._steps.append(_Step(key, classes, counts, after))
        return new

    def _settle(self, state: _State, key: int, token: int | None) -> tuple[_State, int]:
        """Return what is left of all conditions once ``key`` has a token (-1: one without a name there; None: idle).

        Beside it, the number of settings of all other keys that this made active.
        """
        left, leaves = list(state), 1
        if self._last.get(self._group_at.get(key, -1)) == key:
            left[self._group_at[key]] = None
        for at in self._mentions[key]:
            before = state[at]
            if isinstance(before, frozenset):
                rest = _substitute(before, key, token)
                leaves *= self._leaves[at] if rest is True else 1
                left[at] = self._forget(at, rest) if isinstance(rest, bool) else rest
        return tuple(left), leaves

    def _forget(self, at: int, holds: bool) -> bool | None:
        """Return whether a condition holds; None if no key that is still to come asks."""
        return holds if at in self._last else None

    def count(self) -> int:
        """Return the number of architectures, and learn what share of them each move has."""
        after = [1] * (1 + max((way for step in self._steps[-1:] for ways in step.after for way in ways), default=0))
        for step in reversed(self._steps):
            ways = [
                [count * after[way] for count, way in zip(*row, strict=True)]
                for row in zip(step.counts, step.after, strict=True)
            ]
            after = [sum(row) for row in ways]
            step.chances = np.array([[way / sum(row) for way in row] for row in ways]).cumsum(axis=1)
        return self._total * after[0]

    def draw(self, rng: np.random.Generator, rows: IntArray) -> None:
        """Draw the tokens of the keys that conditions name, in place."""
        state = np.zeros(len(rows), dtype=np.int64)
        for step in self._steps:
            assert step.chances is not None
            sums, ways = step.chances[state], np.array(step.after)
            move = (sums <= (rng.random(len(rows)) * sums[:, -1])[:, None]).sum(axis=1)
            for at, options in enumerate(step.classes):
                there = np.flatnonzero(move == at)
                rows[there, step.key] = options.pick(rng.integers(0, options.size, size=len(there)))
            state = ways[state, move]


def _substitute(rest: frozenset[frozenset[_Literal]], key: int, token: int | None) -> _Rest:
    """Return what is left of clauses once a key has a token."""
    kept = set()
    for clause in rest:
        own = next((literal for literal in clause if literal[0] == key), None)
        if own is None or token in own[1]:
            kept.add(clause - {own})
    return True if frozenset() in kept else frozenset(kept) or False


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
