"""Kinds of decision: the options of one key, numbered from 0.

A domain maps a *token* (an int in ``range(radix)``) to a *choice* (what a trial receives) and back; ``problems`` lists
everything that is wrong with a choice, and ``token`` takes only what has none. ``layer_choice`` and ``input_choice``
are NNI 1.9's types for architectures; ``choice``, ``randint`` and ``quniform`` are NNI's finite types for everything
else, so that a learning rate can be searched together with the network; :class:`GridDomain` is a grid for the others.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from search_spaces.checks import is_int, is_number
from search_spaces.values import LEVELS, GridDomain, ValueDomain, identity

Choice = Any
"""``{"_value": name, "_idx": i}``, lists of both for an input choice, or a bare value for NNI's own types."""

MAX_RADIX = 2**62
"""Tokens are NumPy int64; a key with more options than this has to be split into several."""


@dataclass(frozen=True)
class LayerDomain:
    """One of several named candidates. Names may repeat: the index decides, the name is checked against it."""

    type: ClassVar[str] = "layer_choice"
    names: tuple[str, ...]

    @property
    def radix(self) -> int:
        return len(self.names)

    def choice(self, token: int) -> Choice:
        return {"_value": self.names[token], "_idx": token}

    def token(self, choice: Choice) -> int:
        return int(choice["_idx"])

    def problems(self, choice: Choice) -> list[str]:
        return _check_pair(choice, '{"_value": name, "_idx": index}') or _check_index(
            choice["_idx"], choice.get("_value"), self.names, "_value" in choice
        )

    def to_json(self) -> Any:
        return list(self.names)


@dataclass(frozen=True)
class InputDomain:
    """A subset of named candidates: of ``low`` to ``high`` members, ordered by size, then lexicographically.

    Where any number may be chosen the token is the bit mask instead: bit ``i`` stands for candidate ``i``.
    """

    type: ClassVar[str] = "input_choice"
    candidates: tuple[str, ...]
    n_chosen: int | tuple[int, int] | None = None

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """Return the smallest and the largest number of inputs, inclusive."""
        if self.n_chosen is None:
            return 0, len(self.candidates)
        return self.n_chosen if isinstance(self.n_chosen, tuple) else (self.n_chosen, self.n_chosen)

    @cached_property
    def radix(self) -> int:
        (low, high), n = self.bounds, len(self.candidates)
        if high - low == n:
            return 1 << n
        total, subsets = 0, math.comb(n, low)  # each from the last: a binomial anew for each size takes minutes
        for k in range(low, high + 1):
            total, subsets = total + subsets, subsets * (n - k) // (k + 1)
        return total

    def choice(self, token: int) -> Choice:
        members = self.members(token)
        return {"_value": [self.candidates[i] for i in members], "_idx": list(members)}

    def members(self, token: int) -> tuple[int, ...]:
        """Return the indices of the chosen inputs, ascending."""
        n = len(self.candidates)
        if self.n_chosen is None:
            return tuple(i for i in range(n) if token >> i & 1)
        for k in range(self.bounds[0], self.bounds[1] + 1):
            if token < math.comb(n, k):
                return _find_subset(token, n, k)
            token -= math.comb(n, k)
        raise IndexError(token)

    def token(self, choice: Choice) -> int:
        members = sorted(int(i) for i in choice["_idx"])
        if self.n_chosen is None:
            return sum(1 << i for i in members)
        n, k = len(self.candidates), len(members)
        return sum(math.comb(n, size) for size in range(self.bounds[0], k)) + _rank_subset(members, n)

    def problems(self, choice: Choice) -> list[str]:
        wrong = _check_pair(choice, '{"_value": [names], "_idx": [indices]}')
        if wrong:
            return wrong
        indices, values = choice["_idx"], choice.get("_value")
        if not isinstance(indices, (list, tuple)):
            return [f"_idx is {indices!r}, wanted a list of indices"]
        checked = isinstance(values, (list, tuple)) and len(values) == len(indices)
        if "_value" in choice and not checked:
            return [f"_value is {values!r}, wanted a list of {len(indices)} names"]
        names = list(values) if checked and values is not None else [None] * len(indices)
        found = [
            problem
            for index, name in zip(indices, names, strict=True)
            for problem in _check_index(index, name, self.candidates, checked)
        ]
        if not found and len(set(indices)) < len(indices):
            found.append(f"_idx is {list(indices)}: an input may be chosen only once")
        low, high = self.bounds
        if not low <= len(indices) <= high:
            wanted = f"exactly {low}" if low == high else f"{low} to {high}"
            found.append(f"{len(indices)} inputs chosen, wanted {wanted}")
        return found

    def to_json(self) -> Any:
        n_chosen = list(self.n_chosen) if isinstance(self.n_chosen, tuple) else self.n_chosen
        return {"candidates": list(self.candidates), "n_chosen": n_chosen}


@dataclass(frozen=True)
class ChoiceDomain(ValueDomain):
    """NNI's ``choice``: one of a list of distinct JSON values, where ``True`` is not 1."""

    type: ClassVar[str] = "choice"
    options: tuple[Any, ...]

    @property
    def radix(self) -> int:
        return len(self.options)

    def choice(self, token: int) -> Choice:
        return self.options[token]

    @cached_property
    def _tokens(self) -> dict[Hashable, int]:
        return {identity(option): token for token, option in enumerate(self.options)}

    def find(self, value: object) -> int | None:
        try:
            return self._tokens.get(identity(value))
        except (TypeError, RecursionError):  # no JSON, or a list that holds itself
            return None

    def wanted(self) -> str:
        return f"one of {list(self.options)}"

    def to_json(self) -> Any:
        return list(self.options)


@dataclass(frozen=True)
class RandintDomain(ValueDomain):
    """NNI's ``randint``: ``low`` to ``high - 1``."""

    type: ClassVar[str] = "randint"
    low: int
    high: int

    @property
    def radix(self) -> int:
        return self.high - self.low

    def choice(self, token: int) -> Choice:
        return self.low + token

    def find(self, value: object) -> int | None:
        if is_number(value) and value == int(value) and self.low <= value < self.high:
            return int(value) - self.low
        return None

    def wanted(self) -> str:
        return f"an integer from {self.low} to {self.high - 1}"

    def to_json(self) -> Any:
        return [self.low, self.high]


@dataclass(frozen=True)
class QuniformDomain(ValueDomain):
    """NNI's ``quniform``: ``clip(round(x / q) * q, low, high)`` for ``low <= x <= high``, as a grid."""

    type: ClassVar[str] = "quniform"
    low: float
    high: float
    q: float

    @cached_property
    def _first(self) -> int:
        return round(self.low / self.q)

    @cached_property
    def radix(self) -> int:
        return round(self.high / self.q) - self._first + 1

    def choice(self, token: int) -> Choice:
        return float(min(max((self._first + token) * self.q, self.low), self.high))

    def find(self, value: object) -> int | None:
        if not is_number(value) or not self.low - self.q <= value <= self.high + self.q:
            return None
        guess = round(value / self.q) - self._first
        near = [t for t in (guess - 1, guess, guess + 1) if 0 <= t < self.radix]
        # Rounding errors of one part in 10^9 are forgiven.
        best = min(near, key=lambda t: abs(self.choice(t) - value), default=None)
        return best if best is not None and math.isclose(self.choice(best), value, abs_tol=self.q * 1e-9) else None

    def wanted(self) -> str:
        return f"a multiple of {self.q} from {self.low} to {self.high}"

    def to_json(self) -> Any:
        return [self.low, self.high, self.q]


Domain = LayerDomain | InputDomain | ChoiceDomain | RandintDomain | QuniformDomain | GridDomain


def is_hyperparameter(domain: Domain) -> bool:
    """Tell whether a key says how to train and not what: it is of one of NNI's own types."""
    return isinstance(domain, ValueDomain)


def entry_of(domain: Domain) -> dict[str, Any]:
    """Return a domain as the entry of a space file."""
    entry = {"_type": domain.type, "_value": domain.to_json()}
    if isinstance(domain, GridDomain) and (domain.levels != LEVELS or domain.type == "quniform"):
        entry["_levels"] = domain.levels
    return entry


def _check_pair(choice: Choice, wanted: str) -> list[str]:
    if not isinstance(choice, dict):
        return [f"got {choice!r}, wanted {wanted}"]
    return [] if "_idx" in choice else [f"got {choice!r} without _idx, wanted {wanted}"]


def _check_index(index: object, name: object, names: tuple[str, ...], checked: bool) -> list[str]:
    """Check one index, and the name beside it if there is one."""
    if not is_int(index):
        return [f"_idx is {index!r}, wanted an integer"]
    if not 0 <= index < len(names):
        return [f"_idx {index} is out of range, wanted 0 to {len(names) - 1} for {list(names)}"]
    if checked and not (isinstance(name, str) and name == names[index]):
        return [f"_value {name!r} does not belong to _idx {index}, which is {names[index]!r}"]
    return []


def _find_subset(rank: int, n: int, k: int) -> tuple[int, ...]:
    """Return the ``rank``-th k-subset of ``range(n)`` in lexicographic order."""
    members: list[int] = []
    for item in range(n):
        if len(members) == k:
            break
        with_item = math.comb(n - item - 1, k - len(members) - 1)
        if rank < with_item:
            members.append(item)
        else:
            rank -= with_item
    return tuple(members)


def _rank_subset(members: list[int], n: int) -> int:
    """Return the rank of an ascending k-subset of ``range(n)`` in lexicographic order."""
    rank, previous, k = 0, -1, len(members)
    for position, member in enumerate(members):
        rank += sum(math.comb(n - item - 1, k - position - 1) for item in range(previous + 1, member))
        previous = member
    return rank
