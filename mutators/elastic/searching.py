"""The search for a sub-network: evolution under limits, scored by the supernet's weights. After Once-for-All's finder.

Differs: MIT's last generation is scored and never looked at, its architectures repeat, limits that cannot be kept hang
it, and it is neither seeded nor resumable. Here every score counts, nothing is scored twice, and the winner of a
predictor is measured before it is believed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from mutators.elastic import costs
from mutators.elastic.errors import ElasticError
from mutators.elastic.given_depth import runnable
from mutators.elastic.predictor import AccuracyPredictor, Ranking
from mutators.elastic.records import Records, digest_of
from mutators.oneshot.data import batches as walk_batches
from mutators.oneshot.errors import OneShotError
from mutators.oneshot.rng import kept_rng
from mutators.oneshot.scoring import Metric, accuracy, evaluate
from nas_tuners.search import Evolution, RandomSearch, Search
from nas_tuners.search.constraints import Constraints, limits_of
from search_spaces.cost.count import Ignore
from search_spaces.cost.example import Example, shape_of
from search_spaces.cost.table import CostError, CostTable
from search_spaces.domains import is_int
from search_spaces.schema import Choices, Tokens

if TYPE_CHECKING:
    from mutators.elastic.ofa import OFA

Score = Callable[[Tokens], float]


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


def search(
    self: OFA,
    constraints: Constraints | None = None,
    data: Iterable[Any] | None = None,
    *,
    calibration: Iterable[Any] | None = None,
    input_shape: Example | None = None,
    cost_table: CostTable | str | PathLike[str] | None = None,
    trials: int = 200,
    population: int = 50,
    seed: int = 0,
    pareto: str | None = None,
    predictor: AccuracyPredictor | int | None = None,
    top_k: int = 10,
    checkpoint: str | PathLike[str] | None = None,
    metric: Metric = accuracy,
    batches: int | None = 20,
    valid_batches: int | None = None,
    progress: bool = True,
    ignore: Ignore = (),
) -> Found:
    """Search for the best sub-network by evolution, scored with the weights that it has here.

    The supernet stays as it is, to the bit: the statistics of batch norms are recomputed for each candidate and
    put back. The same arguments give the same result, whatever else the process draws.

    Args:
        constraints: by metric, the highest cost allowed, or [lowest, highest]: ``{"latency_ms": 8}``. Of "macs",
            "params" and "latency_ms", or what ``cost_table`` has.
        data: batches (inputs, targets) that were not trained on.
        calibration: training batches to recompute batch norms on; None: the statistics in the supernet count,
            which are a mixture.
        input_shape: of the costs, without the batch; None: that of ``data``.
        cost_table: of this model, or its path; None: one is made, by :func:`mutators.elastic.costs.cost_table`.
        trials: sub-networks to score, all different; with a predictor, to predict.
        population: drawn at random first; the best quarter of so many become parents.
        seed: of the search, and of the batches that all candidates are scored on.
        pareto: a metric: return the front of score against it, too.
        predictor: ranks candidates instead of the supernet; or of how many random sub-networks, measured by the
            supernet, to fit one, whose rank correlation is shown. The supernet measures the best in the end.
        top_k: so many of those that the predictor ranks first.
        checkpoint: a file of scores; a search that was killed finds them there and goes on as it would have. With
            it, milliseconds that were measured stand in the file of this name with ``.costs.json`` added.
        metric: (outputs, targets) to a number, higher is better, the mean over the batch.
        batches: of the calibration at most; None: all.
        valid_batches: of the validation; None: all.
        progress: whether to show the best so far and the time that is left on stderr.
        ignore: modules that cost nothing although they have parameters, such as positions that are added; see
            :func:`search_spaces.cost.count_macs`.

    Returns: the best and all that was measured; :meth:`export` takes it.

    Raises:
        ElasticError: numbers or data do not fit, or the checkpoint is of another supernet, space or seed.
        ConstraintError: no sub-network keeps the constraints; the nearest cost is named.
        CostError: a metric is unknown, or the cost table is of another model.

    Differs: PaddleSlim's is empty.
    """
    _check({"trials": trials, "population": population, "top_k": top_k}, data, calibration, predictor)
    assert data is not None
    metrics = list(dict.fromkeys([*(limit.metric for limit in limits_of(constraints)), *([pareto] if pareto else [])]))
    table = _table(self, metrics, cost_table, input_shape, data, checkpoint, seed, progress, ignore)
    limits = constraints or None
    evolution = Evolution(
        population, max(population // 4, 1), constraints=limits, cost_table=table if limits else None, seed=seed
    )
    evolution.setup(self.space)
    first = RandomSearch(seed=seed, constraints=limits, cost_table=table if limits else None)
    first.setup(self.space)
    header = {
        "space": self.space.digest,
        "weights": digest_of(self.model),
        "seed": seed,
        "metric": getattr(metric, "__qualname__", type(metric).__qualname__),
        "calibrated": calibration is not None,
        "batches": batches,
        "valid_batches": valid_batches,
    }
    if batches is not None and isinstance(calibration, Sized):
        batches = min(batches, len(calibration)) or batches
    records = Records(checkpoint, header)
    scorer = _Scorer(self, data, calibration, batches, valid_batches, seed, metric, records)
    evolve = partial(_evolved, effective=_effective(self), show=progress)
    if predictor is None:
        return _found(self, evolve(evolution, scorer, trials, "searching"), table, pareto)
    measured: dict[Tokens, float] = {}
    if not isinstance(predictor, AccuracyPredictor):
        measured = evolve(first, scorer, predictor, "measuring")
        predictor = _fitted(self, measured, seed, progress)
    for tokens in _ranked(evolve(evolution, partial(_predicted, predictor), trials, "predicting"))[:top_k]:
        measured[tokens] = scorer(tokens)
    return _found(self, measured, table, pareto, predictor.ranking)


def _check(numbers: Mapping[str, object], data: object, calibration: object, predictor: object) -> None:
    wrong = [f"{name} is {n!r}, wanted a whole number from 1 up" for name, n in numbers.items() if not _positive(n)]
    if data is None:
        wrong.append("data is missing: batches (inputs, targets) that were not trained on")
    wrong += [
        f"{name} is an iterator, wanted a loader that can start again for every sub-network"
        for name, loader in (("data", data), ("calibration", calibration))
        if isinstance(loader, Iterator)
    ]
    if not (predictor is None or isinstance(predictor, AccuracyPredictor) or _positive(predictor)):
        wrong.append(f"predictor is {predictor!r}, wanted a predictor, or how many sub-networks to fit one to")
    if wrong:
        raise ElasticError("this cannot be searched:", wrong)


def _effective(ofa: OFA) -> Callable[[Tokens], Tokens]:
    """By which sub-networks are told apart: choices of blocks that a depth leaves out change nothing."""
    return costs.Anatomy(ofa.model).effective if costs.is_elastic(ofa.model) else lambda tokens: tokens


def _positive(value: object) -> bool:
    return is_int(value) and value >= 1


class _Scorer:
    """Measures sub-networks by the supernet, each once."""

    def __init__(
        self,
        ofa: OFA,
        data: Iterable[Any],
        calibration: Iterable[Any] | None,
        batches: int | None,
        valid_batches: int | None,
        seed: int,
        metric: Metric,
        records: Records,
    ) -> None:
        self._space, self._model, self._records = ofa.space, runnable(ofa), records
        self._data, self._calibration = data, calibration
        self._counts, self._seed, self._metric = (batches, valid_batches), seed, metric

    def __call__(self, tokens: Tokens) -> float:
        known = self._records.scores.get(tokens)
        if known is not None:
            return known
        batches, valid_batches = self._counts
        try:
            scores = evaluate(
                self._model,
                self._space.decode(tokens),
                self._data,
                self._calibration,
                batches=batches,
                valid_batches=valid_batches,
                seed=self._seed,
                metric=self._metric,
            )
        except OneShotError as error:
            raise ElasticError(f"a sub-network cannot be scored: {error}") from error
        if "default" not in scores:
            raise ElasticError(f"the metric gives {sorted(scores)}, wanted a number, or numbers with one as 'default'.")
        score = float(scores["default"])
        self._records.add(tokens, score)
        return score


def _evolved(
    search: Search, score: Score, trials: int, what: str, *, effective: Callable[[Tokens], Tokens], show: bool
) -> dict[Tokens, float]:
    """Ask, score and tell, until there are so many different ones or nothing is left. Returns: scores in order."""
    found: dict[Tokens, float] = {}
    best = -math.inf
    with _bar(trials, show, what) as bar:
        while len(found) < trials and (proposals := search.ask(1)):
            (proposal,) = proposals
            tokens = effective(proposal.tokens)
            if tokens not in found:
                found[tokens] = score(tokens)
                best = max(best, found[tokens])
                bar.set_postfix(best=f"{best:.4f}", refresh=False)
                bar.update()
            search.tell(proposal.uid, found[tokens])
    return found


def _fitted(ofa: OFA, measured: Mapping[Tokens, float], seed: int, show: bool) -> AccuracyPredictor:
    predictor = AccuracyPredictor(ofa.model, seed)
    ranking = predictor.fit(list(measured), list(measured.values()))
    if show:
        sys.stderr.write(f"predictor ({predictor.kind}): {ranking}\n")
    return predictor


def _predicted(predictor: AccuracyPredictor, tokens: Tokens) -> float:
    return float(predictor.predict([tokens])[0])


def _ranked(scores: Mapping[Tokens, float]) -> list[Tokens]:
    """Best first; of equals the earlier."""
    return sorted(scores, key=scores.__getitem__, reverse=True)


def _bar(total: int, show: bool, what: str) -> Any:
    interval = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, disable=not show, unit="net", desc=what, mininterval=interval)


def _table(
    ofa: OFA,
    metrics: Sequence[str],
    given: CostTable | str | PathLike[str] | None,
    input_shape: Example | None,
    data: Iterable[Any],
    checkpoint: str | PathLike[str] | None,
    seed: int,
    progress: bool,
    ignore: Ignore,
) -> CostTable | None:
    """The table that was given, or one that has all metrics; None if nothing is to be looked up."""
    if isinstance(given, (str, PathLike)):
        given = CostTable.load(given)
    if given is not None:
        missing = [metric for metric in metrics if metric not in given.metrics]
        if missing:
            raise CostError(f"the cost table has no metric {missing}, wanted some of {list(given.metrics)}.")
        return given.arranged(ofa.space)
    if not metrics:
        return None
    example = _example(data) if input_shape is None else input_shape
    kept = None if checkpoint is None else Path(f"{checkpoint}.costs.json")
    if kept is not None and kept.exists():  # measured milliseconds are never the same again
        table = CostTable.load(kept).arranged(ofa.space)
        if set(metrics) <= set(table.metrics) and table.about.get("input_shape") == shape_of(example):
            return table
    with _bar(1, progress, "costs") as bar, kept_rng():
        table = costs.cost_table(runnable(ofa), example, metrics, seed=seed, ignore=ignore, progress=_showing(bar))
    if kept is not None:
        table.save(kept)
    return table


def _showing(bar: Any) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        bar.total, bar.n = total, done
        bar.update(0)

    return show


def _example(data: Iterable[Any]) -> torch.Tensor:
    """One image of the first batch.

    Raises:
        ElasticError: there is no batch, or it does not begin with a tensor.
    """
    with kept_rng():
        batch = next(iter(walk_batches(data, 0)), None)
    inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(inputs, torch.Tensor):
        what = "data has no batches" if batch is None else f"a batch begins with a {type(inputs).__name__}"
        raise ElasticError(f"{what}, wanted (inputs, targets); or give input_shape or a cost_table.")
    example: torch.Tensor = inputs[:1]
    return example


def _found(
    ofa: OFA,
    measured: Mapping[Tokens, float],
    table: CostTable | None,
    pareto: str | None,
    ranking: Ranking | None = None,
) -> Found:
    metrics = () if table is None else table.metrics
    subnets = [
        Subnet(ofa.space.decode(tokens), score, {name: table.cost(name, tokens) for name in metrics} if table else {})
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
