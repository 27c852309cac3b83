"""Count the architectures of a space whose keys have conditions, and draw from them.

The way goes through the keys that conditions name, each after those that its own condition names. All that has to be
remembered is what is left of each condition: so counting is fast where conditions are nested, and exact for any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

_MOST_STATES = 2**12  # at one step
_MOST_WORK = 2e9  # conditions looked at in all: some seconds


class EntangledError(ValueError):
    """Raised where so many conditions hang together that their architectures cannot be counted."""


_Literal = tuple[int, frozenset[int]]
Name = frozenset[frozenset[_Literal]]
"""A condition: clauses, any of which is enough."""
_Rest = bool | Name | None
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


class Walk:
    """The way through all keys that conditions name.

    Args:
        radices: the number of options of each key.
        order: of all keys, each after those that its condition names.
        names: the conditions, each once.
        members: of each condition, the keys that have it.
    """

    def __init__(
        self,
        radices: Sequence[int],
        order: Sequence[int],
        names: Sequence[Name],
        members: Sequence[Sequence[int]],
    ) -> None:
        self._names = names
        self._mentions: dict[int, list[int]] = {}
        for at, name in enumerate(names):
            for key in {key for clause in name for key, _ in clause}:
                self._mentions.setdefault(key, []).append(at)
        self._group_at = {key: at for at, keys in enumerate(members) for key in keys}
        walked = [key for key in order if key in self._mentions]
        self._leaves = [math.prod(radices[k] for k in keys if k not in self._mentions) for keys in members]
        self._last = {self._group_at[key]: key for key in walked if key in self._group_at}
        free = (k for k in order if k not in self._mentions and k not in self._group_at)
        self._total = math.prod(radices[key] for key in free)
        self._steps: list[_Step] = []
        states: dict[_State, int] = {tuple(names): 0}
        work = 0
        for key in walked:
            classes = self._split(key, radices[key])
            work += len(states) * len(classes) * len(names)
            if work > _MOST_WORK:
                raise EntangledError
            states = self._take(key, classes, states)

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
