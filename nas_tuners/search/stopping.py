"""Stop trials early that will hardly be among the best, by what they report on the way.

Asynchronous successive halving, ASHA (Li et al., MLSys 2020, arXiv:1810.05934), and the median rule (Golovin et al.,
Google Vizier, KDD 2017). Differs: ASHA stops trials, since a host cannot pause them: each decision is made once, as
soon as a trial reaches a rung, among those that were there before; with several objectives it ranks by fronts and
crowding distance. The median is of the results there, not of averages up to there, as in Optuna, which stops more.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from nas_tuners.search.model.fronts import crowd, rank_fronts
from search_spaces.checks import one_of, whole

Values = tuple[float, ...]
"""What an intermediate result is worth in each objective, to be maximized."""
NONE = "none"


class Curves(dict[int, dict[int, Values]]):
    """The intermediate results of trials, by uid and resource. ``whole``: the uids of those that came to their end."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: set[int] = set()

    def add(self, uid: int, resource: int, values: Values) -> None:
        """Add one; of a trial that runs again, it replaces the one from before."""
        self.setdefault(uid, {})[resource] = values

    def at(self, resource: int) -> dict[int, Values]:
        """Return the first result at or after a resource, by uid, of those that came as far."""
        reached = {uid: [r for r in curve if r >= resource] for uid, curve in self.items()}
        return {uid: self[uid][min(own)] for uid, own in reached.items() if own}

    def expect(self, score: float, resource: int, told: Mapping[int, float]) -> float:
        """Return the score that a stopped trial would have reached: its last, and what others gained in the median.

        Args:
            score: its last one.
            resource: where that was.
            told: the scores of whole trials, by uid.
        """
        gains = [told[uid] - values[0] for uid, values in self.at(resource).items() if uid in told]
        gains = [gain for gain in gains if math.isfinite(gain)]
        return score + (float(np.median(gains)) if gains else 0.0)


class Rule(Protocol):
    """Decide whether a trial stops."""

    @abstractmethod
    def stops(self, curves: Curves, uid: int, resource: int, values: Values) -> bool:
        """Return whether a trial stops at a result that is not among ``curves`` yet."""


@dataclass(frozen=True)
class Asha:
    """Let the best ``1 / reduction_factor`` go on from each rung: ``min_resource``, and its multiples by the factor."""

    min_resource: int = 1
    reduction_factor: int = 3

    def stops(self, curves: Curves, uid: int, resource: int, values: Values) -> bool:
        rung = self.min_resource
        if resource < rung:
            return False
        while rung * self.reduction_factor <= resource:
            rung *= self.reduction_factor
        if any(rung <= before < resource for before in curves.get(uid, ())):
            return False  # it has passed this rung
        others = [reached for other, reached in curves.at(rung).items() if other != uid]
        return _place(others, values) >= math.ceil((len(others) + 1) / self.reduction_factor)


@dataclass(frozen=True)
class Median:
    """Stop a trial whose best result so far is below the median of what whole trials had reached there.

    Nothing is stopped before ``min_resource``, nor before ``startup`` trials have come to their end.
    """

    min_resource: int = 1
    startup: int = 5

    def stops(self, curves: Curves, uid: int, resource: int, values: Values) -> bool:
        others = [curve for other, curve in curves.items() if other in curves.whole and min(curve) <= resource]
        if resource < self.min_resource or len(others) < self.startup:
            return False
        reached = [curve[max(r for r in curve if r <= resource)][0] for curve in others]
        best = max([values[0], *(v[0] for v in curves.get(uid, {}).values())])
        return bool(best < np.median(reached))


RULES: dict[str, type[Asha | Median]] = {"asha": Asha, "median": Median}


def read_rule(given: object) -> Rule | None:
    """Return the rule of a name, or of a mapping with its name as ``rule`` and its numbers; None for ``none``.

    Raises ValueError if it is something else.
    """
    if given == NONE:
        return None
    numbers: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {"rule": given}
    name = numbers.pop("rule", None)
    if problems := one_of("early_stopping", name, [*RULES, NONE]):
        raise ValueError(problems[0] + ".")
    rule = RULES[str(name)]
    lowest = {field.name: 2 if field.name == "reduction_factor" else 1 for field in fields(rule)}
    problems = [p for number in numbers for p in one_of(f"the name in early_stopping {name}", number, lowest)]
    problems = problems or [
        p for key, value in numbers.items() for p in whole(f"early_stopping[{key!r}]", value, lowest[key])
    ]
    if problems:
        raise ValueError("; ".join(problems) + ".")
    return rule(**numbers)


def _place(others: list[Values], values: Values) -> int:
    """Return how many of the others are better: in one objective, or in the order of NSGA-II."""
    if len(values) == 1:
        return sum(other[0] > values[0] for other in others)
    every = np.array([*others, values])
    ranks = rank_fronts(every)
    apart = crowd(every, ranks)
    better = (ranks < ranks[-1]) | ((ranks == ranks[-1]) & (apart > apart[-1]))
    return int(better.sum())
