"""Limits on what an architecture may cost: which architectures keep them, how many do, and drawing from those alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from nas_tuners.search.additive import FloatArray, IntArray, Sampler, sampler
from nas_tuners.search.splitting import Splitting
from nas_tuners.search.trellis import Trellis, steps_of
from search_spaces import Space, Tokens
from search_spaces.checks import is_number
from search_spaces.cost.table import CostTable

LIST_LIMIT = 2**18  # up to so many feasible architectures are listed, and the search ends with the last of them
_TRIALS = 2**14  # drawn at a time, to see how many keep the other limits
_MOST_TRIALS = 2**18  # then limits that were never all kept are called impossible
_LEAST = 1e-4  # of the direct draws that have to keep the other limits too
_LEAST_JOINT = 1e-2  # where costs are joint; fewer are found by splitting
_ROUNDS = 32  # of drawing, half a million at most, before a sample comes out short

Constraints = Mapping[str, float | Sequence[float | None]]
"""``{"macs": 330e6}``, or ``{"macs": [290e6, 330e6]}`` with None for an open end. Limits are inclusive."""

Mask = npt.NDArray[np.bool_]


class ConstraintError(ValueError):
    """A constraint is malformed, has no cost table, or cannot be met."""


@dataclass(frozen=True)
class Limit:
    """One metric's range, inclusive."""

    metric: str
    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        low = f"{self.low:.10g} <= " if self.low > -math.inf else ""
        return f"{low}{self.metric}" + (f" <= {self.high:.10g}" if self.high < math.inf else "")

    def to_json(self) -> list[float | None]:
        return [None if math.isinf(end) else end for end in (self.low, self.high)]


def limits_of(constraints: Any) -> tuple[Limit, ...]:
    """Return what ``constraints`` says, checked.

    Raises:
        ConstraintError: it is no mapping, an end is no number, or a range is empty.
    """
    if constraints is None:
        return ()
    if not isinstance(constraints, Mapping):
        raise ConstraintError(f'constraints is {constraints!r}, wanted {{"macs": 330e6}} or {{"macs": [low, high]}}.')
    return tuple(_limit(metric, value) for metric, value in constraints.items())


def _limit(metric: Any, value: Any) -> Limit:
    ends = list(map(_number, value if isinstance(value, (list, tuple)) else [None, value]))
    if len(ends) != 2 or ends == [None, None] or not all(end is None or is_number(end) for end in ends):
        wanted = "wanted the highest cost allowed, or [lowest, highest] with None for an open end"
        raise ConstraintError(f"constraints[{metric!r}] is {value!r}, {wanted}.")
    low, high = -math.inf if ends[0] is None else float(ends[0]), math.inf if ends[1] is None else float(ends[1])
    if low > high:
        raise ConstraintError(f"constraints[{metric!r}] is {value!r}, an empty range: wanted [lowest, highest].")
    return Limit(str(metric), low, high)


def _number(end: Any) -> Any:
    """A number that stands as text: YAML, which NNI's configurations are in, takes 330e6 for one."""
    try:
        return float(end) if isinstance(end, str) else end
    except ValueError:
        return end


def table_of(cost_table: CostTable | Mapping[str, Any] | str | PathLike[str] | None) -> CostTable | None:
    """Return the table itself, read from its file or built from its JSON.

    Raises:
        CostError: it cannot be read, or is not valid.
        ConstraintError: it is something else altogether.
    """
    if cost_table is None or isinstance(cost_table, CostTable):
        return cost_table
    if isinstance(cost_table, Mapping):
        return CostTable.from_json(cost_table)
    if not isinstance(cost_table, (str, PathLike)):
        raise ConstraintError(f"cost_table is {cost_table!r}, wanted the path of a cost table, or a CostTable.")
    return CostTable.load(cost_table)


def check_limits(limits: Sequence[Limit], table: CostTable | None) -> None:
    """Raise ConstraintError where a limit is on something that no table tells the cost of."""
    if limits and table is None:
        named = ", ".join(map(str, limits))
        raise ConstraintError(f"the constraint {named} needs cost_table=, the file that nas cost writes.")
    unknown = [limit.metric for limit in limits if table is not None and limit.metric not in table.metrics]
    if unknown and table is not None:
        raise ConstraintError(f"the cost table has no metric {unknown}, wanted some of {list(table.metrics)}.")


class Feasible:
    """The part of a space that keeps every limit.

    With one limit a draw is uniform and direct. With several, it is direct on the tightest of them and by rejection
    on the others; where at most 2^18 keep the tightest, those that keep all are listed, and drawing is direct again.

    Joint terms of a table do not change that as long as few keys meet (:mod:`~nas_tuners.search.trellis`). Where many
    do, draws are by rejection, and below one in a hundred by :class:`~nas_tuners.search.splitting.Splitting`: then they
    are only nearly uniform, the share is an estimate, and an impossible limit names the nearest cost that was found.

    Args:
        space: what can be chosen.
        table: of the same space; its keys may stand in another order.
        limits: at least one.

    Raises:
        CostError: the table is of another space.
        ConstraintError: nothing keeps the limits; the nearest reachable cost is named. Also where several limits, or
            one narrow range in a space of more than 2^40, are kept by so little that it can hardly be drawn.
    """

    def __init__(self, space: Space, table: CostTable, limits: Sequence[Limit]) -> None:
        self.limits, self._space, self._table = tuple(limits), space, table.arranged(space)
        self._slack = {limit.metric: self._slack_of(limit.metric) for limit in limits}
        self._bounds = {limit.metric: self._table.bounds(limit.metric) for limit in limits}
        samplers = {limit: self._sampler(limit) for limit in limits}
        tightest = min(limits, key=lambda limit: samplers[limit].share)
        self._sampler_, self._listed = samplers[tightest], None  # type: tuple[Sampler, IntArray | None]
        if self._sampler_.count <= LIST_LIMIT // self._sampler_.effort:
            rows = self._sampler_.every()
            kept = rows[self.mask(rows)]
            self._complain_if_none(kept, rows, "no architecture keeps")
            self._listed, self.count, self.share, self.exact = kept, len(kept), len(kept) / space.size, True
        elif self._sampler_.exact and len(limits) == 1:
            self.count, self.share, self.exact = self._sampler_.count, self._sampler_.share, True
        else:
            accepted = self._accepted()
            self.share, self.exact, self.count = self._sampler_.share * accepted, False, space.size

    share: float
    """Of all architectures, those that keep the limits."""
    exact: bool
    """Whether :attr:`share` is counted; otherwise it is estimated from draws."""
    count: int
    """How many there are, or at most, where ``exact`` is False."""

    def holds(self, tokens: Tokens) -> bool:
        """Whether one architecture keeps every limit."""
        for limit in self.limits:
            cost, slack = self._table.cost(limit.metric, tokens), self._slack[limit.metric]
            if not limit.low - slack <= cost <= limit.high + slack:
                return False
        return True

    def mask(self, rows: IntArray) -> Mask:
        """Which architectures keep every limit. Returns: (n,)."""
        kept = np.ones(len(rows), dtype=np.bool_)
        for limit in self.limits:
            costs, slack = self._table.costs(limit.metric, rows), self._slack[limit.metric]
            kept &= (costs >= limit.low - slack) & (costs <= limit.high + slack)
        return kept

    def sample(self, rng: np.random.Generator, n: int) -> IntArray:
        """Draw ``n`` architectures that keep the limits; fewer only where hardly any do. Returns: (n, keys)."""
        if self._listed is not None:
            return self._listed[rng.integers(len(self._listed), size=n)]
        found, missing, batch = [], n, n if self.exact else n + 8
        for _ in range(_ROUNDS):
            rows = self._sampler_.draw(rng, batch)
            kept = rows[self.mask(rows)][:missing]
            found.append(kept)
            missing -= len(kept)
            if not missing:
                break
            batch = min(2 * batch + 8, _TRIALS // self._sampler_.effort)
        return np.concatenate(found)

    def every(self) -> IntArray | None:
        """All architectures that keep the limits, where they could be listed. Returns: (count, keys)."""
        return self._listed

    def __str__(self) -> str:
        limits = ", ".join(map(str, self.limits))
        how = f"exactly {self.count} architectures" if self.exact else "estimated"
        return f"{self.share:.4g} of the space keeps {limits} ({how})"

    def _slack_of(self, metric: str) -> float:
        """Rounding errors are forgiven where costs are no whole numbers: one part in 10^12."""
        if self._table.whole(metric):
            return 0.0
        costs = (array for _, array in self._table.terms(metric))
        return 1e-12 * (abs(self._table.fixed[metric]) + sum(float(np.abs(array).max()) for array in costs))

    def _sampler(self, limit: Limit) -> Sampler:
        fixed, slack = float(self._table.fixed[limit.metric]), self._slack[limit.metric]
        whole, bounds = self._table.whole(limit.metric), self._bounds[limit.metric]
        for wrong, nearest in (
            (limit.high + slack < bounds.low, bounds.low),
            (limit.low - slack > bounds.high, bounds.high),
        ):
            if wrong and bounds.exact:
                raise _impossible(limit, nearest)
        low, high = limit.low - fixed - slack, limit.high - fixed + slack
        if limit.metric not in self._table.joint:
            found = sampler(self._table.columns(limit.metric), low, high, whole)
        else:
            listable = self._space.size <= LIST_LIMIT
            steps = None if listable else steps_of(self._space.radices, self._table.terms(limit.metric))
            if steps is None:
                return _Anything(self._space)
            found = Trellis(steps, low, high, whole)
        if not found.share > 0:
            sure = found.exact or limit.metric not in self._table.joint
            raise _impossible(limit, fixed + found.nearest(), "reachable" if sure else "found")
        return found

    def _accepted(self) -> float:
        """The share of direct draws that keep every limit, from as many draws as it takes to see a hundred."""
        rng, tried, kept = np.random.default_rng(0), 0, 0
        batch, most = _TRIALS // self._sampler_.effort, _MOST_TRIALS // self._sampler_.effort
        while kept < 100 and tried < most:
            rows = self._sampler_.draw(rng, batch)
            kept, tried = kept + int(self.mask(rows).sum()), tried + batch
        if kept < _LEAST_JOINT * tried and any(limit.metric in self._table.joint for limit in self.limits):
            found = Splitting(self._space.radices, self._excess)
            if found.share > 0:
                self._sampler_ = found
                return 1.0
            rows = np.concatenate([rows, found.best[None]])
        self._complain_if_none(rows[:kept], rows, "none was found that keeps")
        if kept < _LEAST * tried:
            limits = " and ".join(map(str, self.limits))
            raise ConstraintError(f"{limits}: {kept} of {tried} draws keep that, too few to search. Widen the limits.")
        return kept / tried

    def _excess(self, rows: IntArray) -> FloatArray:
        """How far architectures are from keeping the limits; 0 where they do. Returns: (n,)."""
        excess = np.zeros(len(rows))
        for limit in self.limits:
            costs, slack = self._table.costs(limit.metric, rows), self._slack[limit.metric]
            over = np.maximum(np.maximum(limit.low - slack - costs, costs - limit.high - slack), 0)
            bounds = self._bounds[limit.metric]
            excess += over / max(bounds.high - bounds.low, 1e-300)
        return excess

    def _complain_if_none(self, kept: IntArray, rows: IntArray, how: str) -> None:
        if len(kept):
            return
        by_limit = {limit: self._table.costs(limit.metric, rows) for limit in self.limits}
        excess = np.zeros(len(rows))
        for limit, costs in by_limit.items():
            over = np.maximum(np.maximum(limit.low - costs, costs - limit.high), 0)
            excess += over / max(float(np.abs(costs).mean()), 1e-300)
        best = int(excess.argmin())
        nearest = ", ".join(f"{limit.metric} {costs[best]:.10g}" for limit, costs in by_limit.items())
        raise ConstraintError(f"{how} {' and '.join(map(str, self.limits))}; the nearest has {nearest}.")


class _Anything:
    """Draws from the whole space, and leaves all limits to the caller."""

    exact, share, effort = False, 1.0, 1

    def __init__(self, space: Space) -> None:
        self.count, self._space = space.size, space

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        return self._space.sample_tokens(rng, n)

    def every(self) -> IntArray:
        return np.indices(self._space.radices).reshape(len(self._space), -1).T


def _impossible(limit: Limit, nearest: float, how: str = "reachable") -> ConstraintError:
    return ConstraintError(f"no architecture keeps {limit}; the nearest {how} {limit.metric} is {nearest:.10g}.")
