"""The base of NNI's own types, whose choice is the bare value; and a grid for those that have no end of values."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from search_spaces.checks import is_number

LEVELS = 33
"""The points of a grid where the space file gives no ``_levels``."""
MAX_LEVELS = 4096


class ValueDomain(ABC):
    """Base of NNI's own types: the choice is the bare value, as NNI gives it to a trial."""

    @abstractmethod
    def find(self, value: object) -> int | None:
        """Return the token of a bare value, or None."""

    @abstractmethod
    def wanted(self) -> str:
        """Return the options as text, for an error message."""

    def token(self, choice: object) -> int:
        token = self.find(_to_value(choice))
        if token is None:
            raise LookupError(choice)
        return token

    def problems(self, choice: object) -> list[str]:
        value = _to_value(choice)
        token = self.find(value)
        if token is None:
            return [f"value {value!r} is not on offer, wanted {self.wanted()}"]
        if isinstance(choice, dict) and "_idx" in choice and choice is not value and choice["_idx"] != token:
            return [f"_idx {choice['_idx']!r} is not that of value {value!r}, which is {token}"]
        return []


@dataclass(frozen=True)
class GridDomain(ValueDomain):
    """NNI's ``uniform``, ``loguniform``, ``qloguniform``, and ``quniform`` with ``_levels``: values from low to high.

    Differs: NNI draws any value of the range. Here it is one of ``levels`` points, evenly spaced, or evenly in the
    logarithm, both ends among them: so a space stays finite, and nothing is proposed twice. With a step ``q`` points
    are rounded as NNI rounds, ``clip(round(x / q) * q, low, high)``, and equal ones counted once.

    >>> GridDomain("loguniform", 1e-3, 10.0, levels=5).values
    (0.001, 0.01, 0.1, 1.0, 10.0)
    >>> GridDomain("qloguniform", 1.0, 100.0, 8.0, levels=5).values
    (1.0, 8.0, 32.0, 96.0)
    """

    type: str
    low: float
    high: float
    q: float | None = None
    levels: int = LEVELS

    @cached_property
    def values(self) -> tuple[float, ...]:
        """Return the points, ascending."""
        shares = [i / (self.levels - 1) for i in range(self.levels)]
        if self._is_log:
            low, high = math.log(self.low), math.log(self.high)
            points = [float(f"{math.exp(low * (1 - share) + high * share):.12g}") for share in shares]
        else:
            points = [self.low * (1 - share) + self.high * share for share in shares]
        points[0], points[-1] = self.low, self.high
        if self.q is not None:
            points = [round(point / self.q) * self.q for point in points]
        return tuple(sorted({min(max(point, self.low), self.high) for point in points}))

    @property
    def radix(self) -> int:
        return len(self.values)

    def choice(self, token: int) -> float:
        return self.values[token]

    def find(self, value: object) -> int | None:
        if not is_number(value):
            return None
        after = bisect_left(self.values, value)
        near = range(max(after - 1, 0), min(after + 1, self.radix))
        best = min(near, key=lambda token: abs(self.values[token] - value))
        # Rounding errors of one part in 10^9 are forgiven.
        slack = 0.0 if self._is_log else (self.high - self.low) * 1e-12
        return best if math.isclose(self.values[best], value, abs_tol=slack) else None

    def wanted(self) -> str:
        return f"one of the {self.radix} points of {self.type} from {self.low} to {self.high}"

    def to_json(self) -> Any:
        return [self.low, self.high] if self.q is None else [self.low, self.high, self.q]

    @property
    def _is_log(self) -> bool:
        return "log" in self.type


def identity(value: object) -> Hashable:
    """Return what two JSON values share if, and only if, they are equal, where a bool is not a number.

    >>> identity([1, {"a": True}]) == identity((1.0, {"a": True})), identity(1) == identity(True)
    (True, False)
    """
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, (list, tuple)):
        return list, tuple(map(identity, value))
    if isinstance(value, dict):
        return dict, frozenset((key, identity(inner)) for key, inner in value.items())
    return value


def _to_value(choice: Any) -> Any:
    return choice["_value"] if isinstance(choice, dict) and choice.keys() == {"_value", "_idx"} else choice
