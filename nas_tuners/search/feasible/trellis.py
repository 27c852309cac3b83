"""Draw directly where cost is a sum of terms of few keys each: a trellis of a few keys a step (Forney, 1973).

A state says which options the keys have that later terms still read: a single state where every term is of one key,
few where each key shares terms with its neighbours only. A draw walks through the trellis: an option's chance is the
share of completions that stay in the range, counted over bins of cost by dynamic programming. That is exact where the
costs are multiples of a step that is not too fine; else a slightly wider range is drawn from, and the caller has to
drop what lies outside. Costs are counted from the cheapest completion, and bins end with the range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from nas_tuners.search.feasible.halves import FloatArray, IntArray
from search_spaces.cost.bounds import add_terms, find_meeting_keys
from search_spaces.cost.limits import Limit
from search_spaces.cost.sums import Term, spread

Mask = npt.NDArray[np.bool_]

MOST_MOVES = 2**17  # from a state to the next, of all steps together
MOST_BINS = 2**16  # of costs
_MOST_CELLS = 2**23  # of all states' rows together: 64 MB
_MOST_ADDITIONS = 4e8  # in half a second
_CHUNK_CELLS, _LEAST = 2**20, 1e-200  # draws times options at a time; least share of a step, of its largest
_NEAR_DRAWS = 2**12  # to see what the nearest bin really costs


@dataclass(frozen=True)
class Step:
    """Some keys, chosen together."""

    keys: tuple[int, ...]
    shape: tuple[int, ...]  # their radices
    costs: FloatArray  # (states, options): of all terms that are complete then
    after: IntArray  # (states, options): the state at the next step
    allowed: Mask | None = None  # (states, options): whether there is such an architecture; None: always


Rule = tuple[tuple[int, ...], Mask]
"""Positions of keys, and which of their options go together: (radix_1, ..., radix_k)."""


def steps_of(
    radices: Sequence[int], terms: Sequence[Term], rules: Sequence[Rule] = (), most_moves: int = MOST_MOVES
) -> list[Step] | None:
    """Return the steps through all keys; None where too many keys meet for any order that was tried."""
    meeting = {key: {key} for key in range(len(radices))} | find_meeting_keys([*terms, *rules])
    for narrowest_first in (False, True):
        order = _order_narrowest_first(radices, meeting) if narrowest_first else range(len(radices))
        groups = _groups(order, meeting)
        moves = sum(math.prod(radices[key] for key in (*before, *keys)) for before, keys, _ in groups)
        if moves <= most_moves and all(len(before) + len(keys) <= 32 for before, keys, _ in groups):
            return _fill(radices, terms, rules, groups)
    return None


Group = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Keys that the state is made of, keys to choose, keys that the next state is made of."""


def _groups(order: Sequence[int], meeting: dict[int, set[int]]) -> list[Group]:
    """Group keys into steps; one that lets no key be forgotten joins the next: as many additions, fewer states."""
    place = {key: at for at, key in enumerate(order)}
    last = {key: max(map(place.__getitem__, others)) for key, others in meeting.items()}
    groups: list[Group] = []
    before: tuple[int, ...] = ()
    keys: tuple[int, ...] = ()
    for at, key in enumerate(order):
        keys = (*keys, key)
        after = tuple(k for k in (*before, *keys) if last[k] > at)
        if len(after) < len(before) + len(keys):
            groups.append((before, keys, after))
            before, keys = after, ()
    return groups


def _order_narrowest_first(radices: Sequence[int], meeting: dict[int, set[int]]) -> Sequence[int]:
    """Order the keys so that each in turn leaves the fewest states."""
    order: list[int] = []
    placed: set[int] = set()
    front: set[int] = set()
    left = dict.fromkeys(range(len(radices)))

    def states(key: int) -> tuple[int, int]:
        return math.prod(radices[k] for k in (*front, key) if meeting[k] - placed - {key}), key

    while left:
        near = {other for key in front for other in meeting[key]} - placed
        key = min(near or left, key=states)
        order.append(key)
        placed.add(key)
        del left[key]
        front = {k for k in (*front, key) if meeting[k] - placed}
    return order


def _fill(radices: Sequence[int], terms: Sequence[Term], rules: Sequence[Rule], groups: Sequence[Group]) -> list[Step]:
    steps, left, waiting = [], list(terms), list(rules)
    for before, keys, after in groups:
        here = (*before, *keys)
        complete = [term for term in left if set(term[0]) <= set(here)]
        left = [term for term in left if not set(term[0]) <= set(here)]
        shape, wide = tuple(radices[key] for key in keys), tuple(radices[key] for key in here)
        table = (math.prod(wide) // math.prod(shape), math.prod(shape))
        numbers = np.arange(math.prod(radices[key] for key in after), dtype=np.float64)
        states = np.broadcast_to(spread(after, numbers.reshape([radices[key] for key in after]), here), wide)
        costs = add_terms(complete, here, radices).reshape(table)
        allowed = None
        if waiting:
            ready = [rule for rule in waiting if set(rule[0]) <= set(here)]
            waiting = [rule for rule in waiting if not set(rule[0]) <= set(here)]
            every = np.ones(wide, dtype=np.bool_)
            for at, mask in ready:
                every &= spread(at, mask, here)
            allowed = every.reshape(table)
        steps.append(Step(keys, shape, costs, states.reshape(table).astype(np.int64), allowed))
    return steps


class Trellis:
    """Draws architectures that have a cost in a range, or a few more than those where it is not ``exact``.

    Args:
        steps: through all keys, as :func:`steps_of` gives them.
        limit: on the sum of the costs.
        whole: whether all costs are whole numbers.
        size: the number of architectures; None: of all combinations of options.
        cut: whether bins reach no further than the range; otherwise to the highest cost.
        most_bins: more are not made, whatever the costs are.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        limit: Limit,
        whole: bool,
        size: int | None = None,
        cut: bool = True,
        most_bins: int = MOST_BINS,
    ) -> None:
        self._given, self._steps = (steps, limit, whole), steps
        to_go, low, high = _to_go([step.costs for step in steps], steps), limit.low, limit.high
        dearest = _to_go([-step.costs for step in steps], steps)
        base, top = float(to_go[0][0]), -float(dearest[0][0])
        self._sign = -1.0 if high - base > top - low else 1.0
        if self._sign < 0:  # count from the end that the range is nearer to: no digits are lost
            to_go, low, high, base, top = dearest, -high, -low, -top, -base
        self._base, self._top = base, top
        above = [
            np.maximum(self._sign * step.costs + rest[step.after] - here[:, None], 0.0) * _is_allowed(step)
            for step, here, rest in zip(steps, to_go, to_go[1:], strict=False)
        ]
        reach = min(top, high) if cut else top
        self._step, self.exact = _width(above, max(reach - base, 0.0), whole, most_bins)
        # rounding to bins adds up to more than this once in 10^7 draws
        self._slack = 0.0 if self.exact else min(len(steps) / 2, 3 * math.sqrt(len(steps)))
        self._size = max(math.floor((reach - base) / self._step + self._slack) + 1, 1)
        self._bins = [np.minimum(np.rint(costs / self._step), self._size).astype(np.int64) for costs in above]
        for bins, step in zip(self._bins, steps, strict=True):
            if step.allowed is not None:
                bins[~step.allowed] = self._size  # beyond the range
        self._from = self._bin(math.ceil, (low - base) / self._step - self._slack)
        self._until = self._bin(math.floor, (high - base) / self._step + self._slack + 1)
        self._below, exponent = self._shares()
        share = float(self._below[0][0, self._until] - self._below[0][0, self._from])
        self.share = math.ldexp(share, exponent)  # 0 where a float is too coarse: then the count tells
        size = size or math.prod(math.prod(step.shape) for step in steps)
        self.count = max(round(Fraction(share) * size * Fraction(2) ** exponent), int(share > 0))
        self.effort = max(1, sum(costs.shape[1] for costs in above) // 512)

    def _bin(self, rounded: Callable[[float], int], end: float) -> int:
        return rounded(min(max(end, 0.0), float(self._size)))

    def _shares(self) -> tuple[list[FloatArray], int]:
        """Return for each step and state: of all ways to go on, the share that sums to less than each bin.

        Those of a step are in a unit of their own, since those of hundreds of keys are smaller than any float. Returned
        beside them: the power of two that the first step's are in.
        """
        exponent, wanted, total = 0, np.zeros((1, self._size)), np.ones(1)  # total: of all ways, in the range or not
        wanted[0, 0] = 1.0
        rows = [wanted]
        for bins, step in zip(reversed(self._bins), reversed(self._steps), strict=True):
            shares = np.zeros((len(bins), self._size))
            total = (total[step.after] * _is_allowed(step)).sum(axis=1)
            most = float(total.max())
            for state, moves in enumerate(bins * len(wanted) + step.after):  # one number for a bin and a state after
                ways, times = np.unique(moves, return_counts=True)
                for way, part in zip(ways.tolist(), (times / most).tolist(), strict=True):
                    bin_, after = divmod(way, len(wanted))
                    if bin_ < self._size:
                        shares[state, bin_:] += wanted[after, : self._size - bin_] * part
            unit = math.frexp(shares.max())[1]
            exponent += unit
            scaled = np.maximum(np.ldexp(shares, -unit), _LEAST)
            wanted, total = np.where(shares > 0, scaled, 0.0), total / most  # what can be never becomes 0
            rows.append(wanted)
        return [np.pad(np.cumsum(row, axis=1), ((0, 0), (1, 0))) for row in reversed(rows)], exponent

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Draw ``n`` architectures, uniformly and independently. Returns: (n, keys)."""
        return self._draw_with_costs(rng, n)[0]

    def _draw_with_costs(self, rng: np.random.Generator, n: int) -> tuple[IntArray, FloatArray]:
        """Draw architectures. Returns: (n, keys), and what they cost."""
        rows = np.empty((n, sum(len(step.keys) for step in self._steps)), dtype=np.int64)
        state, used, costs = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.zeros(n)
        for at, (step, bins) in enumerate(zip(self._steps, self._bins, strict=True)):
            picked, lots = np.empty(n, dtype=np.int64), rng.random(n)
            for part, chances in self._chances(at, state, used):
                sums = chances.cumsum(axis=1)
                picked[part] = (sums <= (lots[part] * sums[:, -1])[:, None]).sum(axis=1)
            picked = np.minimum(picked, bins.shape[1] - 1)
            self._write(rows, step, picked)
            costs += step.costs[state, picked]
            state, used = step.after[state, picked], used + bins[state, picked]
        return rows, costs

    def every(self) -> IntArray:
        """Return all of them, in any order. Returns: (count, keys)."""
        keys = sum(len(step.keys) for step in self._steps)
        rows, state = np.zeros((1, keys), dtype=np.int64), np.zeros(1, dtype=np.int64)
        used = state
        for at, (step, bins) in enumerate(zip(self._steps, self._bins, strict=True)):
            found = []
            for part, chances in self._chances(at, state, used):
                row, picked = np.nonzero(chances > 0)
                found.append((row + part.start, picked))
            row, picked = (np.concatenate(numbers) for numbers in zip(*found, strict=True))
            rows = rows[row]
            self._write(rows, step, picked)
            state, used = step.after[state[row], picked], used[row] + bins[state[row], picked]
        return rows

    def nearest(self) -> float:
        """Return the reachable cost nearest to the range, where ``share`` is 0; not ``exact``: the nearest found."""
        steps, limit, whole = self._given
        uncut = Trellis(steps, limit, whole, cut=False)
        bins = np.flatnonzero(np.diff(uncut._below[0][0])).astype(np.float64)
        reached = uncut._sign * (bins * uncut._step + uncut._base)
        cost = limit.nearest(reached)
        if uncut.exact:
            return cost
        around = Limit(limit.metric, cost, cost).widen((uncut._slack + 1) * uncut._step)
        drawn = Trellis(steps, around, whole)._draw_with_costs(np.random.default_rng(0), _NEAR_DRAWS)[1]
        return limit.nearest(np.append(drawn, [self._sign * self._base, self._sign * self._top]))

    def _write(self, rows: IntArray, step: Step, picked: IntArray) -> None:
        for key, tokens in zip(step.keys, np.unravel_index(picked, step.shape), strict=True):
            rows[:, key] = tokens

    def _chances(self, at: int, state: IntArray, used: IntArray) -> Iterator[tuple[slice, FloatArray]]:
        """Yield for a stretch of rows at a time, (rows, options): the share of completions in the range."""
        step, bins, below = self._steps[at], self._bins[at], self._below[at + 1]
        rows = max(1, _CHUNK_CELLS // bins.shape[1])
        for start in range(0, len(state), rows):
            part = slice(start, start + rows)
            spent, after = used[part, None] + bins[state[part]], step.after[state[part]]
            chances: FloatArray = below[after, np.clip(self._until - spent, 0, self._size)]
            if self._from:
                chances -= below[after, np.clip(self._from - spent, 0, self._size)]
            yield part, chances


def _is_allowed(step: Step) -> Mask | float:
    return 1.0 if step.allowed is None else step.allowed


def _to_go(costs: Sequence[FloatArray], steps: Sequence[Step]) -> list[FloatArray]:
    """Return for each step and state: the least that the rest costs."""
    rest = [np.zeros(1)]
    for cost, step in zip(reversed(costs), reversed(steps), strict=True):
        ways = cost + rest[-1][step.after]
        rest.append((ways if step.allowed is None else np.where(step.allowed, ways, np.inf)).min(axis=1))
    return rest[::-1]


def _width(above: Sequence[FloatArray], reach: float, whole: bool, most_bins: int) -> tuple[float, bool]:
    """Return the width of a bin, and whether every cost is a multiple of it."""
    moves, states = sum(costs.size for costs in above), sum(len(costs) for costs in above) + 1
    bins = int(max(2**6, min(most_bins, _MOST_CELLS // states, _MOST_ADDITIONS // max(moves, 1))))
    if whole:
        divisor = math.gcd(*(int(np.gcd.reduce(costs.astype(np.int64), axis=None)) for costs in above))
        if divisor == 0 or reach / divisor <= bins:
            return float(divisor or 1), True
    span = sum(float(costs.max()) for costs in above)
    return max(reach, 1e-9 * span) / bins or 1.0, False
