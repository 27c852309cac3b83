"""Describe the result of a search for sub-networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mutators.choices.errors import ElasticError
from mutators.elastic.search.predictor import RankCorrelation
from nas_tuners.runs.front import pareto_front
from search_spaces.cost.table import CostTable
from search_spaces.schema import Choices, Space, Tokens


@dataclass(frozen=True)
class ScoredSubnet:
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
class SearchResult:
    """The result of a search. ``ofa.export`` takes it for the best sub-network.

    Attributes:
        best: of all measured sub-networks; the first of equals.
        measured: all of them, in their order.
        front: where ``pareto`` was given, those of which no other is at least as good in score and cost and better in
            one, by ascending cost; of equals the first.
        ranking: of the predictor, if there is one.
    """

    best: ScoredSubnet
    measured: tuple[ScoredSubnet, ...]
    front: tuple[ScoredSubnet, ...] = ()
    ranking: RankCorrelation | None = None

    @property
    def choices(self) -> Choices:
        """Return the choices of the best."""
        return self.best.choices

    @property
    def score(self) -> float:
        """Return the score of the best."""
        return self.best.score

    @property
    def costs(self) -> Mapping[str, float]:
        """Return the costs of the best."""
        return self.best.costs


def make_result(
    space: Space,
    measured: Mapping[Tokens, float],
    table: CostTable | None,
    pareto: str | None,
    ranking: RankCorrelation | None = None,
) -> SearchResult:
    """Return the best of what was measured and the front, with costs. An ElasticError says that no score is finite."""
    subnets = [ScoredSubnet(space.decode(t), score, costs_by_metric(table, t)) for t, score in measured.items()]
    usable = [subnet for subnet in subnets if math.isfinite(subnet.score)]
    if not usable:
        raise ElasticError(f"none of {len(subnets)} sub-networks has a finite score: is the supernet trained?")
    best = max(usable, key=lambda subnet: subnet.score)
    front: tuple[ScoredSubnet, ...] = ()
    if pareto is not None:
        at = pareto_front([subnet.costs[pareto] for subnet in usable], [subnet.score for subnet in usable])
        front = tuple(usable[i] for i in at)
    return SearchResult(best, tuple(subnets), front, ranking)


def costs_by_metric(table: CostTable | None, tokens: Tokens) -> dict[str, float]:
    """Return the costs of a sub-network in all metrics of a table."""
    return {} if table is None else {metric: table.cost(metric, tokens) for metric in table.metrics}
