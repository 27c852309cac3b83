"""Limits on what an architecture may cost: inclusive ranges of metrics, as data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from search_spaces.checks import is_number
from search_spaces.cost.table import CostTable
from search_spaces.errors import ConstraintError

Constraints = Mapping[str, float | Sequence[float | None]]
"""``{"macs": 330e6}``, or ``{"macs": [290e6, 330e6]}`` with None for an open end. Limits are inclusive."""
Table = CostTable | Mapping[str, Any] | str | PathLike[str] | None
"""A cost table, as a constructor takes it: itself, its JSON, or its path."""

MOST_MISMATCH = 0.01
"""The largest relative error that a table may have found in itself; where keys have conditions, it has to be exact."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TEXT = re.compile(rf"(?:({_NUMBER})(<=|>=))?([A-Za-z_]\w*)(?:(<=|>=)({_NUMBER}))?")


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
            wanted = 'wanted such as "macs<=330e6", "macs>=290e6" or "290e6<=macs<=330e6" (limits are inclusive)'
            raise ConstraintError(f"the constraint is {text!r}, {wanted}.")
        low, high = -math.inf, math.inf
        for end, is_low in ((match[1], match[2] == "<="), (match[5], match[4] == ">=")):
            if end and is_low:
                low = max(low, float(end))
            elif end:
                high = min(high, float(end))
        return cls(match[3], low, high)

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

    def to_json(self) -> list[float | None]:
        """Return ``[low, high]``, with None for an open end."""
        return [None if math.isinf(end) else end for end in (self.low, self.high)]

    def __str__(self) -> str:
        low = f"{self.low:.10g} <= " if self.low > -math.inf else ""
        return f"{low}{self.metric}" + (f" <= {self.high:.10g}" if self.high < math.inf else "")


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
        wanted = "wanted the highest cost allowed, or [lowest, highest] with None for an open end"
        raise ConstraintError(f"constraints[{metric!r}] is {value!r}, {wanted}.")
    low, high = -math.inf if ends[0] is None else float(ends[0]), math.inf if ends[1] is None else float(ends[1])
    if low > high:
        raise ConstraintError(f"constraints[{metric!r}] is {value!r}, an empty range: wanted [lowest, highest].")
    return Limit(str(metric), low, high)


def _read_number(end: Any) -> Any:
    """Read a number that stands as text: to YAML, which NNI's configurations are in, ``330e6`` is text."""
    try:
        return float(end) if isinstance(end, str) else end
    except ValueError:
        return end


def constraints_of(texts: Sequence[str]) -> dict[str, list[float | None]] | None:
    """Convert texts such as ``macs<=330e6`` to constraints; None where there are no texts.

    Raises ConstraintError if one is malformed, or no cost can keep all of them.

    >>> constraints_of(["macs<=330e6", "290e6 <= macs", "params>=1000"])
    {'macs': [290000000.0, 330000000.0], 'params': [1000.0, None]}
    """
    limits: dict[str, Limit] = {}
    for text in texts:
        new = Limit.parse(text)
        old = limits.get(new.metric, new)
        limit = limits[new.metric] = Limit(new.metric, max(new.low, old.low), min(new.high, old.high))
        if limit.low > limit.high:
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


def check_limits(limits: Sequence[Limit], table: CostTable | None) -> None:
    """Check that a table says what the metrics of the limits cost.

    Raises ConstraintError if there is no table, it lacks a metric, or it does not match the networks that it is of.
    """
    if limits and table is None:
        named = ", ".join(map(str, limits))
        raise ConstraintError(f"the constraint {named} needs cost_table=, the file that nas cost writes.")
    missing = [limit.metric for limit in limits if table is not None and limit.metric not in table.metrics]
    if missing and table is not None:
        raise ConstraintError(f"the cost table has no metric {missing}, wanted some of {list(table.metrics)}.")
    wrong = [problem for limit in limits if table is not None and (problem := _mismatch(table, limit.metric))]
    if wrong:
        raise ConstraintError("limits cannot be kept with this cost table:", wrong)


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
