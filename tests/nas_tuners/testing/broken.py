"""Searches that each break a promise, as users' own do, by the name of the check that has to notice."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from nas_tuners.search import RandomSearch, Search
from nas_tuners.search.records import MetricError, Proposal
from search_spaces import Space, Tokens


class Repeats(RandomSearch):
    def ask(self, n: int = 1) -> list[Proposal]:
        return [twin for one in super().ask(n) for twin in (one, self._admit(one.tokens, None))][:n]


class Outside(RandomSearch):
    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        return self._sample(n) + 1


class GivesUp(RandomSearch):
    def ask(self, n: int = 1) -> list[Proposal]:
        return [] if self.counts.asked >= 2 else super().ask(n)


class Unlimited(RandomSearch):
    def __init__(self, seed: int = 0, constraints: Any = None, cost_table: Any = None) -> None:
        super().__init__(seed)


class OneByOne(RandomSearch):
    def ask(self, n: int = 1) -> list[Proposal]:
        return super().ask(min(n, 1))


class Waits(RandomSearch):
    """For a generation to end."""

    def ask(self, n: int = 1) -> list[Proposal]:
        return [] if self.counts.pending >= 100 else super().ask(n)


class InOrder(RandomSearch):
    """Takes results for those of the oldest trial."""

    def tell(self, uid: int, metrics: Any, job: str | None = None, resource: int | None = None) -> bool:
        pending = self.pending
        return super().tell(pending[0].uid if pending else uid, metrics, job, resource)


class TakesNaN(RandomSearch):
    def unusable(self, tokens: Tokens, metrics: Any, resource: int | None = None) -> str | None:
        return None


class NeedsBest(RandomSearch):
    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        if self.counts.asked < 3:
            return self._sample(n)
        return self.space.neighbours(self.best.tokens, self.rng, n)  # type: ignore[union-attr]


class TakesStops(RandomSearch):
    def tell(self, uid: int, metrics: Any, job: str | None = None, resource: int | None = None) -> bool:
        return super().tell(uid, metrics, job)


class Final(RandomSearch):
    """Holds a failure to be the last word."""

    def tell(self, uid: int, metrics: Any, job: str | None = None, resource: int | None = None) -> bool:
        return self.trials.find(uid).state == "pending" and super().tell(uid, metrics, job, resource)


class Welcomes(RandomSearch):
    def tell(self, uid: int, metrics: Any, job: str | None = None, resource: int | None = None) -> bool:
        return uid in self.trials and super().tell(uid, metrics, job, resource)


class Believes(RandomSearch):
    def tell(self, uid: int, metrics: Any, job: str | None = None, resource: int | None = None) -> bool:
        try:
            return super().tell(uid, metrics, job, resource)
        except MetricError:
            return self.fail(uid)


class Upwards(RandomSearch):
    def setup(self, space: Space, optimize_mode: str = "maximize") -> None:
        super().setup(space, "maximize")


class Unseeded(RandomSearch):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.rng = np.random.default_rng()


class Hashes(RandomSearch):
    """Whose seed hangs on the hash of a text, which each process draws."""

    def __init__(self, name: str = "hashes") -> None:
        super().__init__(abs(hash(name)))


class Global(RandomSearch):
    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        return [[random.randrange(radix) for radix in self.space.radices] for _ in range(n)]


class Unpicklable(RandomSearch):
    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.key = lambda tokens: sum(tokens)


class Forgets(RandomSearch):
    """Its arguments, when it is made anew."""

    def __init__(self, seed: int = 5) -> None:
        super().__init__(seed)

    def fresh(self) -> Any:
        return type(self)(seed=self.seed + 1)


class Resets(RandomSearch):
    def setup(self, space: Space, optimize_mode: str = "maximize") -> None:
        with suppress(AttributeError):
            del self.space
        super().setup(space, optimize_mode)


class CountsAsks(Search):
    """Keeps what it needs where a replay does not come by."""

    asks = 0

    def ask(self, n: int = 1) -> list[Proposal]:
        self.asks += 1
        return super().ask(n)

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        rng = np.random.default_rng([self.seed, self.asks])
        return self.space.sample_tokens(rng, n)

    def _learn(self, tokens: Tokens, score: float) -> None: ...


class Hasty(RandomSearch):
    """Takes the first intermediate result for the last."""

    def report(self, uid: int, metrics: Any, resource: int, job: str | None = None, stop: bool | None = None) -> bool:
        return self.tell(uid, metrics, job)


SEARCHES: dict[str, tuple[type[Search], ...]] = {
    "proposals": (Repeats, Outside),
    "exhaustion": (GivesUp,),
    "limits": (Unlimited,),
    "batches": (OneByOne,),
    "pending": (Waits,),
    "any_order": (InOrder,),
    "unusable": (TakesNaN,),
    "failures": (NeedsBest,),
    "stopped": (TakesStops,),
    "intermediate": (Hasty,),
    "late_results": (Final,),
    "strangers": (Welcomes,),
    "metrics": (Believes,),
    "minimize": (Upwards,),
    "seed": (Unseeded, Global),
    "fresh_process": (Hashes,),
    "global_generators": (Global,),
    "copies": (Unpicklable,),
    "options": (Forgets,),
    "setup": (Resets,),
    "resume": (CountsAsks, Unseeded),
}
