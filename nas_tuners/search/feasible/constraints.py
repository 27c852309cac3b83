"""The part of a space that keeps limits on its costs: count it, and draw from it alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas_tuners.search.feasible.halves import MOST_SUMS, FloatArray, Halves, IntArray, Sampler, split_keys
from nas_tuners.search.feasible.splitting import Splitting
from nas_tuners.search.feasible.trellis import MOST_BINS, MOST_MOVES, Rule, Trellis, steps_of
from search_spaces import Space, Tokens
from search_spaces.checks import exact_or_rounded
from search_spaces.cost.limits import Limit
from search_spaces.cost.table import CostTable
from search_spaces.errors import ConstraintError

_TRIALS = 2**14  # drawn at a time, to see how many keep the other limits
_MOST_TRIALS = 2**18  # then limits that were never all kept are called impossible
_LEAST = 1e-4  # of the direct draws that have to keep the other limits too
_ROUNDS = 32  # of drawing, half a million at most, before a sample comes out short

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Caps:
    """Bounds of the work and the memory that the samplers take.

    Attributes:
        listed: up to so many feasible architectures are listed, and the search ends with the last of them.
        sums: of one half of the keys.
        moves: in a trellis, from a state to the next.
        bins: of costs in a trellis.
        accepted: the least share of direct draws that keep all limits, where costs are joint; else by splitting.
    """

    listed: int = 2**18
    sums: int = MOST_SUMS
    moves: int = MOST_MOVES
    bins: int = MOST_BINS
    accepted: float = 1e-2


class Feasible:
    """The architectures of a space that keep every limit; without limits, all of them.

    With one limit a draw is uniform and direct: :class:`Halves` for sums over the keys in a space of up to 2^40, else
    :class:`Trellis`, as long as few keys meet in a term. With several limits, a draw is direct on the tightest and by
    rejection on the others. Where at most 2^18 architectures keep the tightest, those that keep all limits are listed,
    and drawn from the list.

    Where many keys meet, draws are by rejection, and below one in a hundred by :class:`Splitting`: then they are only
    nearly uniform, the share is an estimate, and an impossible limit names the nearest cost that was found.

    Args:
        space: what can be chosen.
        table: of the same space, its keys in any order; needed where there are limits.
        limits: on metrics of the table.
        caps: bounds of the work and the memory that the samplers take.

    Attributes:
        share: of all architectures, those that keep the limits.
        exact: whether the share is counted; otherwise it is estimated from draws.
        count: how many there are, or at most, where ``exact`` is False.

    Raises:
        CostError: the table is of another space.
        ConstraintError: nothing keeps the limits; the nearest reachable cost is named. Also where several limits, or
            one narrow range in a space of more than 2^40, are kept by so little that it can hardly be drawn.
    """

    def __init__(
        self, space: Space, table: CostTable | None = None, limits: Sequence[Limit] = (), caps: Caps | None = None
    ) -> None:
        self.limits, self._space, self._caps = tuple(limits), space, caps or Caps()
        self._sampler: Sampler = _Anything(space)
        self._listed: IntArray | None = None
        self._widened: list[Limit] = []
        self.share, self.exact, self.count = 1.0, True, space.size
        if table is None or not limits:
            return
        self._table = table.arranged(space)
        limits = self.limits = tuple(limit.resolve(self._table) for limit in limits)
        self._widened = [limit.widen(self._slack(limit.metric)) for limit in limits]  # rounding errors are forgiven
        self._bounds = {limit.metric: self._table.bounds(limit.metric) for limit in limits}
        self._sampler = min(map(self._sampler_of, self._widened), key=lambda sampler: sampler.count)
        if self._sampler.count <= self._caps.listed // self._sampler.effort:
            rows = self._sampler.every()
            self._listed = rows[self.mask(rows)]
            if not len(self._listed):
                raise self._impossible("no architecture keeps", rows)
            self.count, self.share = len(self._listed), len(self._listed) / space.size
        elif self._sampler.exact and len(limits) == 1:
            self.count, self.share = self._sampler.count, self._sampler.share
        else:
            self.exact, self.share = False, self._accept_share() * self._sampler.share

    def holds(self, tokens: Tokens) -> bool:
        """Return whether one architecture keeps every limit."""
        return not self.limits or all(
            limit.low <= self._table.cost(limit.metric, tokens) <= limit.high for limit in self._widened
        )

    def mask(self, rows: IntArray) -> Mask:
        """Return which architectures keep every limit. Returns: (n,)."""
        kept = np.ones(len(rows), dtype=np.bool_)
        for limit in self._widened:
            kept &= limit.holds(self._table.costs(limit.metric, rows))
        return kept

    def sample(self, rng: np.random.Generator, n: int) -> IntArray:
        """Draw ``n`` architectures that keep the limits; fewer only where hardly any do. Returns: (n, keys)."""
        if not self.limits:
            return self._space.sample_tokens(rng, n)
        if self._listed is not None:
            return self._listed[rng.integers(len(self._listed), size=n)]
        parts, missing, batch = [], n, n if self.exact else n + 8
        for _ in range(_ROUNDS):
            rows = self._sampler.draw(rng, batch)
            parts.append(rows[self.mask(rows)][:missing])
            missing -= len(parts[-1])
            if not missing:
                break
            batch = min(2 * batch + 8, _TRIALS // self._sampler.effort)
        return np.concatenate(parts)

    @property
    def listable(self) -> bool:
        """Return whether :meth:`every` can be asked for."""
        return not self.limits or self._listed is not None

    def every(self) -> Iterable[Tokens]:
        """Yield all architectures that keep the limits, where they could be listed."""
        if self._listed is None:
            if self._space.conditions is None:
                return itertools.product(*map(range, self._space.radices))
            return map(tuple, self._space.every().tolist())
        return map(tuple, self._listed.tolist())

    def __str__(self) -> str:
        how = f"exactly {exact_or_rounded(self.count)} architectures" if self.exact else "estimated"
        share = f"{self.share:.4g}" if self.share else "less than 1e-300"
        return f"{share} of the space keeps {', '.join(map(str, self.limits))} ({how})"

    def _slack(self, metric: str) -> float:
        """Return 0 for costs that are whole numbers, else one part in 10^12 of their sum."""
        if self._table.whole(metric):
            return 0.0
        costs = (array for _, array in self._table.terms(metric))
        return 1e-12 * (abs(self._table.fixed[metric]) + sum(float(np.abs(array).max()) for array in costs))

    def _sampler_of(self, limit: Limit) -> Sampler:
        """Return the best sampler for one limit alone."""
        table, metric, bounds = self._table, limit.metric, self._bounds[limit.metric]
        for wrong, nearest in ((limit.high < bounds.low, bounds.low), (limit.low > bounds.high, bounds.high)):
            if wrong and bounds.exact:
                raise self._unreachable(metric, nearest)
        space, caps = self._space, self._caps
        fixed, joint = float(table.fixed[metric]), metric in table.joint or space.conditions is not None
        of_sum = Limit(metric, limit.low - fixed, limit.high - fixed)
        left = None if joint else split_keys(space.radices, caps.sums)
        if left is not None:
            sampler: Halves | Trellis = Halves(table.columns(metric), of_sum, left)
        elif joint and space.size <= caps.listed:
            return _Anything(space)
        else:
            rules = rules_of(space)
            steps = None if rules is None else steps_of(space.radices, table.terms(metric), rules, caps.moves)
            if steps is None:
                return _Anything(space)
            sampler = Trellis(steps, of_sum, table.whole(metric), space.size, most_bins=caps.bins)
        if not sampler.count:
            raise self._unreachable(metric, fixed + sampler.nearest(), "reachable" if sampler.exact else "found")
        return sampler

    def _accept_share(self) -> float:
        """Return the share of direct draws that keep every limit, from as many draws as it takes to see a hundred."""
        rng, tried, kept = np.random.default_rng(0), 0, 0
        batch, most = _TRIALS // self._sampler.effort, _MOST_TRIALS // self._sampler.effort
        while kept < 100 and tried < most:
            rows = self._sampler.draw(rng, batch)
            kept, tried = kept + int(self.mask(rows).sum()), tried + batch
        if kept < self._caps.accepted * tried and any(limit.metric in self._table.joint for limit in self.limits):
            splitting = Splitting(self._space, self._excess)
            if splitting.share > 0:
                self._sampler = splitting
                return 1.0
            rows = np.concatenate([rows, splitting.best[None]])
        if not kept:
            raise self._impossible("none was found that keeps", rows)
        if kept < _LEAST * tried:
            limits = " and ".join(map(str, self.limits))
            raise ConstraintError(f"{limits}: {kept} of {tried} draws keep that, too few to search. Widen the limits.")
        return kept / tried

    def _excess(self, rows: IntArray) -> FloatArray:
        """Return how far architectures are from keeping the limits; 0 where they do. Returns: (n,)."""
        excess = np.zeros(len(rows))
        for limit in self._widened:
            bounds = self._bounds[limit.metric]
            excess += limit.distance(self._table.costs(limit.metric, rows)) / max(bounds.high - bounds.low, 1e-300)
        return excess

    def _impossible(self, how: str, rows: IntArray) -> ConstraintError:
        best = rows[int(self._excess(rows).argmin())].tolist()
        costs = ", ".join(f"{limit.metric} {self._table.cost(limit.metric, best):.10g}" for limit in self.limits)
        return ConstraintError(f"{how} {' and '.join(map(str, self.limits))}; the nearest has {costs}.")

    def _unreachable(self, metric: str, nearest: float, how: str = "reachable") -> ConstraintError:
        limit = next(limit for limit in self.limits if limit.metric == metric)
        return ConstraintError(f"no architecture keeps {limit}; the nearest {how} {metric} is {nearest:.10g}.")


def rules_of(space: Space) -> list[Rule] | None:
    """Return the rules that make encodings canonical; None where too many keys meet in one."""
    rules: list[Rule] = []
    if space.conditions is None:
        return rules
    for key in space.conditions.positions:
        gate = space.conditions.gate([key])
        if gate is None:
            return None
        on, unused = gate[1][..., None], np.arange(space.radices[key]) == 0
        rules.append(((*gate[0], key), on | unused))
    return rules


class _Anything:
    """Draws from the whole space, and leaves all limits to the caller."""

    exact, share, effort = False, 1.0, 1

    def __init__(self, space: Space) -> None:
        self.count, self._space = space.size, space

    def draw(self, rng: np.random.Generator, n: int) -> IntArray:
        """Draw ``n``, uniformly and independently. Returns: (n, keys)."""
        return self._space.sample_tokens(rng, n)

    def every(self) -> IntArray:
        """Return all of them. Returns: (count, keys)."""
        return self._space.every()
