"""What a search for sub-networks found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mutators.elastic.layers.errors import ElasticError
from mutators.elastic.search.predictor import Ranking
from search_spaces.cost.table import CostTable
from search_spaces.schema import Choices, Space, Tokens


@dataclass(frozen=True)
class Subnet:
    """A sub-network that was measured. ``ofa.export`` takes it as it is.

    Attributes:
        choices: by key.
        score: of the metric, by the supernet's weights; higher is better.
        costs: by metric of the table.
    """

    choices: Choices
    score: float
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Found:
    """What a search found. ``ofa.export`` takes it for the best.

    Attributes:
        best: of all measured sub-networks; the first of equals.
        measured: all of them, in their order.
        front: where ``pareto`` was given, those of which no other is at least as good in score and cost and better in
            one, by ascending cost; of equals the first.
        ranking: of the predictor, if there is one.
    """

    best: Subnet
    measured: tuple[Subnet, ...]
    front: tuple[Subnet, ...] = ()
    ranking: Ranking | None = None

    @property
    def choices(self) -> Choices:
        """The best one's."""
        return self.best.choices

    @property
    def score(self) -> float:
        """The best one's."""
        return self.best.score

    @property
    def costs(self) -> Mapping[str, float]:
        """The best one's."""
        return self.best.costs


def found(
    space: Space,
    measured: Mapping[Tokens, float],
    table: CostTable | None,
    pareto: str | None,
    ranking: Ranking | None = None,
) -> Found:
    """The best of what was measured, with its costs, and the front against one of them.

    Raises:
        ElasticError: no score is finite.
    """
    metrics = () if table is None else table.metrics
    subnets = [
        Subnet(space.decode(tokens), score, {name: table.cost(name, tokens) for name in metrics} if table else {})
        for tokens, score in measured.items()
    ]
    usable = [subnet for subnet in subnets if math.isfinite(subnet.score)]
    if not usable:
        raise ElasticError(f"none of {len(subnets)} sub-networks has a finite score: is the supernet trained?")
    best = max(usable, key=lambda subnet: subnet.score)
    return Found(best, tuple(subnets), () if pareto is None else _front(usable, pareto), ranking)


def _front(subnets: Sequence[Subnet], metric: str) -> tuple[Subnet, ...]:
    """Those that are better than all that cost no more."""
    costs, scores = np.array([s.costs[metric] for s in subnets]), np.array([s.score for s in subnets])
    front: list[Subnet] = []
    for at in np.lexsort((-scores, costs)).tolist():
        if not front or scores[at] > front[-1].score:
            front.append(subnets[at])
    return tuple(front)
