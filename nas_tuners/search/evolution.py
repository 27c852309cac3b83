"""Evolution of architectures: SPOS (Guo et al., ECCV 2020, arXiv:1904.00420) and aging (Real et al., AAAI 2019).

Differs: elitist over all history and tie-safe; a mutation always changes something and never re-draws the old value;
nothing is proposed twice; no generation is waited for; children beyond the constraints are dropped, and what is
missing then is drawn directly from the feasible ones; where nearly all children are known, they step further.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from nas_tuners.search.arguments import Shared
from nas_tuners.search.base import Search
from nas_tuners.search.outcomes import rank_violation
from nas_tuners.search.variation import Rows, Variation
from search_spaces import Space, Tokens
from search_spaces.checks import between, is_int, one_of, whole

_SIZES = ("candidate_pool_size", "candidate_top_k", "num_mutation", "num_crossover")
_DEFAULTS: dict[str, Any] = {"candidate_pool_size": 16, "candidate_top_k": 5, "mutate_prob": 0.05, "max_epoch": None}
_PRESETS: dict[str, dict[str, Any]] = {
    "spos": dict(zip(_SIZES, (50, 10, 25, 25), strict=True)) | {"mutate_prob": 0.1, "max_epoch": 20}
}
_REPAIRS = 3
_KNOWN = 0.9  # part of the children in a round
_WORN_OUT = 4  # rounds in a row of so many known children: then they go further from their parents
_SPARE = 8  # children made for one that is asked for, since some of them are known already

_Ranked = tuple[float, int, Tokens]  # score negated, order of arrival, architecture: ascending is best first


class Evolution(Search):
    """Evolution: mutates and crosses the best architectures so far; steady, in generations, or aging.

    Arguments are named as in MMRazor's EvolutionSearcher.

    Args:
        candidate_pool_size: architectures drawn at random to begin with; of one epoch; in an aging population.
        candidate_top_k: the best of all history, who become parents; with ``regularized``, the size of a tournament.
        num_mutation, num_crossover: children of either kind in an epoch; the rest of the pool is drawn at random. In
            steady mode their shares are the chances of each kind. One that is not given fills the pool, both halve it.
        mutate_prob: the chance of each key to change in a mutation, beside the one that always does.
        max_epoch: ends the search after ``max_epoch * candidate_pool_size`` architectures; None: never.
        mode: ``steady``, every result counts at once; ``generation``, parents change when a whole epoch has results.
            Asks that come before those are filled with mutants of the best so far.
        regularized: aging evolution: parents win tournaments among the latest ``candidate_pool_size`` results.
        preset: ``spos`` sets the published 50, 10, 25, 25, 0.1 and 20 epochs where nothing else is given.
        shared: the arguments of every :class:`~nas_tuners.search.Search`.

    Raises:
        ValueError: an argument is out of its range, or two of them contradict each other.
    """

    warm_up_option = "candidate_pool_size"

    def __init__(
        self,
        candidate_pool_size: int | None = None,
        candidate_top_k: int | None = None,
        num_mutation: int | None = None,
        num_crossover: int | None = None,
        mutate_prob: float | None = None,
        max_epoch: int | None = None,
        mode: str = "steady",
        regularized: bool = False,
        preset: str | None = None,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(**shared)
        given = (candidate_pool_size, candidate_top_k, num_mutation, num_crossover, mutate_prob, max_epoch)
        self._complain([] if preset is None else one_of("preset", preset, _PRESETS))
        numbers = _fill_in(dict(zip((*_SIZES, "mutate_prob", "max_epoch"), given, strict=True)), preset)
        self._complain(_problems(numbers, mode, regularized))
        self.candidate_pool_size, self.candidate_top_k = numbers["candidate_pool_size"], numbers["candidate_top_k"]
        self.num_mutation, self.num_crossover = numbers["num_mutation"], numbers["num_crossover"]
        self.mutate_prob, self.max_epoch = float(numbers["mutate_prob"]), numbers["max_epoch"]
        self.mode, self.regularized = mode, regularized
        self.warm_up = self.candidate_pool_size
        self.budget = None if self.max_epoch is None else self.max_epoch * self.candidate_pool_size
        self._results = 0
        self._elite: list[_Ranked] = []
        self._population: deque[_Ranked] = deque(maxlen=self.candidate_pool_size)
        self._parents: list[_Ranked] = []  # of this generation
        self._began, self._had_results = 0, 0  # how many were asked for, and had results, when it began
        self._reach = 0  # keys that change beyond the usual, because the parents' neighbourhood is known
        self._worn = 0  # rounds in a row, in one ask, of little but known children

    def setup(self, space: Space, optimize_mode: str = "maximize") -> None:
        """Take the space to search."""
        super().setup(space, optimize_mode)
        self._variation = Variation(space, self.rng)

    def _propose(self, n: int) -> Rows:
        slot = self.counts.asked + self._remaining.found
        if slot < self.candidate_pool_size:
            return self._sample(min(n, self.candidate_pool_size - slot))
        self._worn = self._worn + 1 if self._remaining.repeated > _KNOWN else 0
        if self._worn == _WORN_OUT:
            self._reach, self._worn = min(self._reach + 1, len(self.space)), 0
        if self.mode == "generation":
            return self._propose_generation(n)
        pool = list(self._population) if self.regularized else self._elite
        kinds = self.rng.random(max(n, _SPARE)) * self.candidate_pool_size
        return self._children(pool, kinds)

    def _learn(self, tokens: Tokens, score: float) -> None:
        self._results += 1
        if score == -math.inf:
            return
        ranked = (-score, self._results, tokens)
        self._population.append(ranked)
        if len(self._elite) < self.candidate_top_k or ranked < self._elite[-1]:
            bisect.insort(self._elite, ranked)
            del self._elite[self.candidate_top_k :]
            self._reach = 0

    def _learn_again(self, tokens: Tokens, mean: float) -> None:
        """Rank by the mean from here on."""
        for pool in (self._elite, self._population):
            for at, (_, place, own) in enumerate(pool):
                if own == tokens:
                    pool[at] = (-mean, place, own)
        self._elite = sorted({*self._elite, *self._population})[: self.candidate_top_k]

    def _learn_infeasible(self, tokens: Tokens, score: float, violation: float) -> None:
        self._learn(tokens, rank_violation(violation))

    def _propose_generation(self, n: int) -> Rows:
        resolved = self.counts.ended
        if resolved - self._had_results >= self.candidate_pool_size:
            self._parents, self._began, self._had_results = list(self._elite), self.counts.asked, resolved
        slot = self.counts.asked + self._remaining.found - self._began
        left = self.candidate_pool_size - slot
        if left <= 0 or not self._parents:
            return self._children(self._elite, np.zeros(max(n, _SPARE)))
        kinds = np.arange(slot, slot + min(n, left))
        return self._children(self._parents, np.tile(kinds, -(-_SPARE // len(kinds))))

    def _children(self, pool: list[_Ranked], kinds: npt.NDArray[Any]) -> Rows:
        """Make a child a kind: a mutant below ``num_mutation``, then ``num_crossover`` crossovers, then draws.

        Keys that do not matter are drawn before, for those that a child makes matter.
        """
        if not pool:
            return self._sample(len(kinds))
        rows, scores = np.array([entry[2] for entry in pool]), np.array([entry[0] for entry in pool])
        children = self.space.fill(rows[self._pick(scores, len(kinds))], self.rng)
        mutants = kinds < self.num_mutation
        fresh = kinds >= self.num_mutation + self.num_crossover
        at = np.flatnonzero(~mutants & ~fresh)
        if len(at):
            others = self.space.fill(rows[self._pick(scores, len(at))], self.rng)
            children[at] = np.where(self.rng.random(others.shape, dtype=np.float32) < 0.5, others, children[at])
            if self._reach:
                children[at] = self._variation.mutate(children[at], self._reach, 0.0)
        at = np.flatnonzero(mutants)
        if len(at):
            children[at] = self._variation.mutate(children[at], 1 + self._reach, self.mutate_prob)
        at = np.flatnonzero(fresh)
        if len(at):
            drawn = self._sample(len(at))
            children[at[: len(drawn)]] = drawn
        return self.space.canonical(self._repair(children))

    def _repair(self, children: Rows) -> Rows:
        """Change one key more of each infeasible child, up to a few times: at a limit most good steps are exchanges."""
        tried = children.copy()
        for _ in range(_REPAIRS):
            wrong = np.flatnonzero(~self._remaining.feasible.mask(tried))
            if not len(wrong):
                break
            tried[wrong] = self._variation.mutate(children[wrong], 1, 0.0)
        return tried

    def _pick(self, scores: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.int64]:
        """Pick ``n`` parents: any of the elite, or the winners of tournaments."""
        if not self.regularized:
            return np.asarray(self.rng.integers(len(scores), size=n))
        entered = self.rng.integers(len(scores), size=(n, self.candidate_top_k))
        winners = scores[entered].argmin(axis=1)
        return np.asarray(entered[np.arange(n), winners])


def _fill_in(given: dict[str, Any], preset: str | None) -> dict[str, Any]:
    """Return the numbers that are given, with the rest from a preset or the defaults."""
    numbers = (_PRESETS[preset] if preset else _DEFAULTS) | {k: v for k, v in given.items() if v is not None}
    pool = numbers["candidate_pool_size"]
    if is_int(pool):
        numbers.setdefault("num_mutation", _rest(pool, numbers.get("num_crossover", pool // 2)))
        numbers.setdefault("num_crossover", _rest(pool, numbers["num_mutation"]))
    return dict.fromkeys(given) | numbers


def _rest(pool: int, others: object) -> int:
    return max(pool - others, 0) if is_int(others) else 0


def _problems(numbers: dict[str, Any], mode: str, regularized: bool) -> list[str]:
    problems = [p for name, low in zip(_SIZES, (1, 1, 0, 0), strict=True) for p in whole(name, numbers[name], low)]
    problems += whole("max_epoch", numbers["max_epoch"], 1, optional=True)
    problems += between("mutate_prob", numbers["mutate_prob"], 0, 1)
    problems += one_of("mode", mode, ("steady", "generation"))
    if not isinstance(regularized, bool):
        problems.append(f"regularized is {regularized!r}, wanted true or false")
    elif regularized and mode == "generation":
        problems.append('regularized evolution has no generations: wanted mode "steady"')
    pool, mutation, crossover = (numbers[name] for name in ("candidate_pool_size", "num_mutation", "num_crossover"))
    if not problems and mutation + crossover > pool:
        problems.append(f"num_mutation {mutation} + num_crossover {crossover} is more than candidate_pool_size {pool}")
    return problems
