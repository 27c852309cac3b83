"""Compute the numbers that the pictures of a run show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np

from nas_tuners.runs.front import objectives_of
from nas_tuners.runs.journal import Event
from nas_tuners.runs.run import Run, arguments_in
from nas_tuners.search.records import Trial
from nas_tuners.show.text import name_option
from search_spaces.checks import is_number
from search_spaces.cost.limits import Limit, limits_of
from search_spaces.cost.table import CostTable
from search_spaces.errors import CostError
from search_spaces.schema import Space

QUARTERS = 4
_UNITS = {
    "macs": "multiply-adds",
    "params": "parameters",
    "latency_ms": "latency",
    "bit_operations": "bit operations",
}
_FIRST = tuple(_UNITS)
_MOST_OPTIONS = 8  # with a colour of their own


@dataclass(frozen=True)
class Costs:
    """One cost of every trial with a result, and the limits on it, in the metric's own unit."""

    name: str
    values: list[float]
    limits: list[float] = field(default_factory=list)

    @property
    def scale(self) -> float:
        """Return the unit of the axis: 1, a thousand, a million or a billion. Milliseconds stay milliseconds."""
        top = max(map(abs, self.values), default=0.0)
        return 1.0 if self.name.endswith("_ms") else max((s for s in (1.0, 1e3, 1e6, 1e9) if s <= top / 2), default=1.0)

    @property
    def label(self) -> str:
        """Return name and unit, for the axis."""
        words = _UNITS.get(self.name, self.name)
        unit = {1e3: "thousands", 1e6: "millions", 1e9: "billions"}.get(self.scale, "")
        unit = "ms" if self.name.endswith("_ms") else unit
        return f"{words} ({unit})" if unit else words


@dataclass(frozen=True)
class Points:
    """Results in two objectives, by their names for the axes. ``front``: the places of those that nothing beats."""

    across: str
    up: str
    x: list[float]
    y: list[float]
    front: list[int]


@dataclass(frozen=True)
class Shares:
    """Shares of a key's options among the trials. ``table``: a row an option, a column a quarter; columns sum to 1."""

    key: str
    names: list[str]
    table: list[list[float]]

    @property
    def change(self) -> float:
        """Return how much the last quarter differs from the first: 0 to 2."""
        return sum(abs(row[-1] - row[0]) for row in self.table)


def collect_costs(run: Run, header: Event, told: Sequence[Trial]) -> dict[str, Costs]:
    """Return every cost that all trials reported or that the run's cost table has, the usual ones first."""
    costs = _reported_costs(run, told)
    table = _load_table(run, header)
    limits = {limit.metric: _ends_of(limit, table) for limit in limits_of(arguments_in(header).get("constraints"))}
    if table is not None:
        for name in table.metrics:
            costs.setdefault(name, [table.cost(name, trial.tokens) for trial in told])
    order = sorted(costs, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
    return {name: Costs(name, costs[name], limits.get(name, [])) for name in order}


def collect_points(run: Run, header: Event, told: Sequence[Trial]) -> Points | None:
    """Return the results of a search with several objectives in the first two; None of one with a single objective."""
    objectives = objectives_of(run, arguments_in(header))
    found = [] if objectives is None else objectives.values(told)
    if objectives is None or not found:
        return None
    front = {trial.uid for trial, _ in objectives.front(told)}
    up, across = (
        f"{name} ({'higher' if mode == 'maximize' else 'lower'} is better)"
        for name, mode in list(objectives.modes.items())[:2]
    )
    y, x = zip(*(row[:2] for _, row in found), strict=True)
    return Points(across, up, list(x), list(y), [at for at, (trial, _) in enumerate(found) if trial.uid in front])


def _reported_costs(run: Run, told: Sequence[Trial]) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    for name in (told[0].metrics or {}) if told else ():
        values = [float(value) for trial in told if is_number(value := (trial.metrics or {}).get(name))]
        if len(values) == len(told) and name not in ("default", run.search.score_key):
            columns[name] = values
    return columns


def _load_table(run: Run, header: Event) -> CostTable | None:
    """Return the cost table of the run's header, if it can be read and is still the same."""
    source = arguments_in(header).get("cost_table")
    try:
        table = CostTable.from_json(source) if isinstance(source, Mapping) else CostTable.load(str(source))
        same = header["search"].get("cost_digest") in (None, table.digest)
        return table.arranged(run.space) if same else None
    except CostError:
        return None


def _ends_of(limit: Limit, table: CostTable | None) -> list[float]:
    """Return the ends of a limit as costs; none for multiples where there is no table to tell of what."""
    ends = (limit if table is None else limit.resolve(table)).to_json()
    return [float(end) for end in ends if is_number(end)]


def running_best(values: Sequence[float], sign: float) -> list[float]:
    """Return the best so far after each value; ``sign`` is 1 to maximize and -1 to minimize.

    >>> running_best([3, 5, 4], 1), running_best([3, 5, 1], -1)
    ([3, 5, 5], [3, 3, 1])
    """
    return list(accumulate(values, max if sign > 0 else min))


def expected_best(values: Sequence[float], sign: float) -> list[float]:
    """Return the mean of the best of k of ``values``, drawn without replacement, for k from 1 to all of them.

    >>> [round(mean, 3) for mean in expected_best([1, 2, 3], 1)]
    [2.0, 2.667, 3.0]
    """
    worst_first = sorted(values, key=lambda v: sign * v)
    n = len(worst_first)
    means = []
    for k in range(1, n + 1):
        share, mean = k / n, 0.0  # the chance that the best of all is among k, then that of the next
        for rank in range(n - 1, k - 2, -1):
            mean += share * worst_first[rank]
            if share < 1e-15:
                break  # what is left cannot be seen
            share *= (rank - k + 1) / rank if rank else 0.0
        means.append(mean)
    return means


def visible_range(values: Sequence[float], sign: float) -> tuple[float, float]:
    """Return the part of the axis to show: all values, except for a tail of results far worse than most.

    >>> visible_range([0.1, *[0.9] * 10, *[0.95] * 10], 1)[0] > 0.5
    True
    """
    ordered = sorted(sign * value for value in values)
    low, high = ordered[0], ordered[-1]
    quarter, median = ordered[len(ordered) // 4], ordered[len(ordered) // 2]
    spread = max(high - quarter, median - quarter)
    if spread > 0:
        low = max(low, quarter - 2 * spread)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    ends = sign * (low - margin), sign * (high + margin)
    return min(ends), max(ends)


def count_shares(space: Space, told: Sequence[Trial]) -> list[Shares]:
    """Return the shares of options in each quarter of ``told``, for every key with more than one, where it matters."""
    ends = [round(len(told) * quarter / QUARTERS) for quarter in range(QUARTERS + 1)]
    parts = [told[a:b] for a, b in pairwise(ends) if b > a]
    keys = [key for key, radix in enumerate(space.radices) if radix > 1]
    rows = [np.array([trial.tokens for trial in part], dtype=np.int64) for part in parts]
    return [_shares(space, key, [row[space.active(row)[:, key], key].tolist() for row in rows]) for key in keys]


def _shares(space: Space, key: int, parts: list[list[int]]) -> Shares:
    name, radix = space.keys[key], space.radices[key]
    counts = [Counter(part) for part in parts]
    tokens = list(range(radix))
    if radix > _MOST_OPTIONS:
        tokens = sorted(token for token, _ in sum(counts, Counter()).most_common(_MOST_OPTIONS - 1))
    table = [[count[token] / max(len(part), 1) for count, part in zip(counts, parts, strict=True)] for token in tokens]
    names = [name_option(space.domains[name].choice(token)) for token in tokens]
    if len(tokens) < radix:
        names.append(f"{radix - len(tokens)} others")
        table.append([max(0.0, 1 - sum(column)) for column in zip(*table, strict=True)])
    return Shares(name, names, table)
