"""Limits on what an architecture may cost: inclusive ranges of metrics, as data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from search_spaces.checks import is_number
from search_spaces.cost.noise import check_noise
from search_spaces.cost.table import CostTable
from search_spaces.errors import ConstraintError

End = float | str | None
"""An end of a limit: a cost; ``"0.6x"``, a multiple of the highest cost in the table; None, open."""
Constraints = Mapping[str, End | Sequence[End]]
"""``{"macs": 330e6}``, ``{"macs": "0.6x"}``, or a range such as ``{"macs": [290e6, None]}``. Limits are inclusive."""
Table = CostTable | Mapping[str, Any] | str | PathLike[str] | None
"""A cost table, as a constructor takes it: itself, its JSON, or its path."""

MOST_MISMATCH = 0.01
"""The largest relative error that a table may have found in itself; where keys have conditions, it has to be exact."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TEXT = re.compile(rf"(?:({_NUMBER}x?)(<=|>=))?([A-Za-z_]\w*)(?:(<=|>=)({_NUMBER}x?))?")


class Multiple(float):
    """An end of a limit as a multiple of the highest cost in the table, that of the largest network: ``0.6x``."""

    def __repr__(self) -> str:
        return f"{float(self):.10g}x"


@dataclass(frozen=True)
class Limit:
    """The range that one metric may have, inclusive."""

    metric: str
    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a limit such as ``macs<=330e6`` or ``290e6<=macs<=330e6``. Raises ConstraintError if it is malformed.

        >>> Limit.parse("290e6 <= macs")
        Limit(metric='macs', low=290000000.0, high=inf)
        """
        match = _TEXT.fullmatch("".join(text.split()))
        if match is None or not (match[1] or match[5]):
            wanted = 'wanted such as "macs<=330e6", "macs<=0.6x" or "290e6<=macs<=330e6" (limits are inclusive)'
            raise ConstraintError(f"the constraint is {text!r}, {wanted}.")
        limit = cls(match[3])
        for end, is_low in ((match[1], match[2] == "<="), (match[5], match[4] == ">=")):
            if end:
                limit = limit.narrow(_read_number(end), is_low, text)
        return limit

    def narrow(self, end: float, is_low: bool, text: str) -> Self:
        """Return the limit with its lower or upper end at least as narrow as ``end``, which stood in ``text``.

        Raises ConstraintError if one of the two is a cost and the other a multiple.
        """
        old = self.low if is_low else self.high
        if math.isfinite(old) and math.isfinite(end) and isinstance(old, Multiple) != isinstance(end, Multiple):
            raise ConstraintError(
                f"the constraint {text!r}: {self.metric} has {old!r} and {end!r} as ends, wanted both as costs or both "
                "as multiples of the highest, such as 0.6x."
            )
        return replace(self, low=max(old, end)) if is_low else replace(self, high=min(old, end))

    def widen(self, slack: float) -> Limit:
        """Return the limit with each end moved outwards by ``slack``."""
        return Limit(self.metric, self.low - slack, self.high + slack)

    def holds(self, costs: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which costs lie in the range. Returns: (n,)."""
        kept: npt.NDArray[np.bool_] = (costs >= self.low) & (costs <= self.high)
        return kept

    def distance(self, costs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return how far each cost lies outside of the range, 0 within it. Returns: (n,)."""
        return np.asarray(np.maximum(np.maximum(self.low - costs, costs - self.high), 0.0))

    def nearest(self, costs: npt.NDArray[np.float64]) -> float:
        """Return the one of ``costs`` that is nearest to the range."""
        return float(costs[np.maximum(self.low - costs, costs - self.high).argmin()])

    def resolve(self, table: CostTable) -> Self:
        """Return the limit with multiples replaced by costs. Raises ConstraintError if nothing can keep them."""
        ends = (self.low, self.high)
        if not any(isinstance(end, Multiple) for end in ends):
            return self
        bounds = table.bounds(self.metric)
        if not bounds.exact:
            raise ConstraintError(f"{self}: the highest {self.metric} is not known exactly, wanted a limit as a cost.")
        low, high = (end * bounds.high if isinstance(end, Multiple) else end for end in ends)
        if low > high:
            raise ConstraintError(f"{self} is an empty range: {low:.10g} to {high:.10g}, wanted the lower end first.")
        return replace(self, low=low, high=high)

    def to_json(self) -> list[float | str | None]:
        """Return ``[low, high]``, with None for an open end and texts such as ``0.6x`` for multiples."""
        ends = (self.low, self.high)
        return [None if math.isinf(end) else repr(end) if isinstance(end, Multiple) else end for end in ends]

    def __str__(self) -> str:
        low, high = (repr(end) if isinstance(end, Multiple) else f"{end:.10g}" for end in (self.low, self.high))
        begin = f"{low} <= " if self.low > -math.inf else ""
        return f"{begin}{self.metric}" + (f" <= {high}" if self.high < math.inf else "")


def limits_of(constraints: Any) -> tuple[Limit, ...]:
    """Convert constraints to limits; see :data:`Constraints`.

    Raises ConstraintError if it is no mapping, an end is no number, or a range is empty.
    """
    if constraints is None:
        return ()
    if not isinstance(constraints, Mapping):
        raise ConstraintError(f'constraints is {constraints!r}, wanted {{"macs": 330e6}} or {{"macs": [low, high]}}.')
    return tuple(_limit(metric, value) for metric, value in constraints.items())


def _limit(metric: Any, value: Any) -> Limit:
    ends = list(map(_read_number, value if isinstance(value, (list, tuple)) else [None, value]))
    if len(ends) != 2 or ends == [None, None] or not all(end is None or is_number(end) for end in ends):
        wanted = (
            "wanted the highest cost allowed, a multiple such as 0.6x, or [lowest, highest] with None for an open end"
        )
        raise ConstraintError(f"constraints[{metric!r}] is {value!r}, {wanted}.")
    low, high = -math.inf if ends[0] is None else ends[0], math.inf if ends[1] is None else ends[1]
    if low > high and isinstance(low, Multiple) == isinstance(high, Multiple):
        raise ConstraintError(f"constraints[{metric!r}] is {value!r}, an empty range: wanted [lowest, highest].")
    return Limit(str(metric), low, high)


def _read_number(end: Any) -> Any:
    """Read a multiple, or a number that stands as text: to YAML, NNI's language, ``330e6`` is text."""
    try:
        if isinstance(end, str):
            return Multiple(end.rstrip().removesuffix("x")) if end.rstrip().endswith("x") else float(end)
        return end if isinstance(end, Multiple) or not is_number(end) else float(end)
    except ValueError:
        return end


def constraints_of(texts: Sequence[str]) -> dict[str, list[float | str | None]] | None:
    """Convert texts such as ``macs<=330e6`` to constraints; None where there are no texts.

    Raises ConstraintError if one is malformed, or no cost can keep all of them.

    >>> constraints_of(["macs<=330e6", "290e6 <= macs", "params>=1000"])
    {'macs': [290000000.0, 330000000.0], 'params': [1000.0, None]}
    """
    limits: dict[str, Limit] = {}
    for text in texts:
        new = Limit.parse(text)
        old = limits.get(new.metric, new)
        limit = limits[new.metric] = old.narrow(new.low, True, text).narrow(new.high, False, text)
        if limit.low > limit.high and isinstance(limit.low, Multiple) == isinstance(limit.high, Multiple):
            raise ConstraintError(f"the constraint {text!r} leaves nothing: the range of {limit.metric} is empty.")
    return {metric: limit.to_json() for metric, limit in limits.items()} or None


def table_of(cost_table: Table) -> CostTable | None:
    """Convert a path or JSON to the cost table that it holds; a table stays itself, and None None.

    Raises CostError if it cannot be read or is not valid, ConstraintError if it is something else altogether.
    """
    if cost_table is None or isinstance(cost_table, CostTable):
        return cost_table
    if isinstance(cost_table, Mapping):
        return CostTable.from_json(cost_table)
    if not isinstance(cost_table, (str, PathLike)):
        raise ConstraintError(f"cost_table is {cost_table!r}, wanted the path of a cost table, or a CostTable.")
    return CostTable.load(cost_table)


def resolve_limits(limits: Sequence[Limit], table: CostTable | None) -> tuple[Limit, ...]:
    """Return limits as costs: multiples are of the highest cost in the table.

    Raises ConstraintError if there is no table, it lacks a metric, it does not match the networks that it is of, or a
    limit asks for more than the table can tell apart; see :func:`~search_spaces.cost.noise.check_noise`.
    """
    if table is None:
        if limits:
            named = ", ".join(map(str, limits))
            raise ConstraintError(f"the constraint {named} needs cost_table=, the file that nas cost writes.")
        return ()
    if missing := [limit.metric for limit in limits if limit.metric not in table.metrics]:
        raise ConstraintError(f"the cost table has no metric {missing}, wanted some of {list(table.metrics)}.")
    if wrong := [problem for limit in limits if (problem := _mismatch(table, limit.metric))]:
        raise ConstraintError("limits cannot be kept with this cost table:", wrong)
    resolved = tuple(limit.resolve(table) for limit in limits)
    for limit in resolved:
        check_noise(limit.metric, limit.low, limit.high, table)
    return resolved


def _mismatch(table: CostTable, metric: str) -> str | None:
    """Say that a table's sums do not match whole networks, by its own check; None if they do, or it has none."""
    check = table.about.get("check")
    errors = check.get("max_relative_error") if isinstance(check, Mapping) else None
    error = errors.get(metric) if isinstance(errors, Mapping) else None
    if not is_number(error) or error <= (0 if table.space.conditions is not None else MOST_MISMATCH):
        return None
    return (
        f"its {metric} are off by up to {100 * error:.3g} % from those of whole networks: options cost something "
        "together that the table does not know. Let trials report what a network costs, and weigh it in the metric"
    )
