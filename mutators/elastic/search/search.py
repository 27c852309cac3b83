"""The search for a sub-network: evolution under limits, scored by the supernet's weights. After Once-for-All's finder.

Differs: MIT's last generation is scored and never looked at, its architectures repeat, limits that cannot be kept hang
it, and it is neither seeded nor resumable. Here every score counts, nothing is scored twice, and the winner of a
predictor is measured before it is believed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

from mutators.choices.errors import OneShotError
from mutators.costs.count import Ignore
from mutators.costs.example import Example
from mutators.elastic.anatomy import Anatomy, is_elastic
from mutators.elastic.given_depth import runnable
from mutators.elastic.layers.errors import ElasticError
from mutators.elastic.search.found import Found, found
from mutators.elastic.search.predictor import AccuracyPredictor
from mutators.elastic.search.records import Records, digest_of
from mutators.elastic.search.table import bar_of, table_for
from mutators.oneshot.scoring import Metric, accuracy, evaluate
from nas_tuners.search import Evolution, RandomSearch, Search
from nas_tuners.search.constraints import Constraints, limits_of
from search_spaces.checks import is_int
from search_spaces.cost.table import CostTable
from search_spaces.schema import Tokens

if TYPE_CHECKING:
    from mutators.elastic.training.ofa import OFA

Score = Callable[[Tokens], float]


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
        cost_table: of this model, or its path; None: one is made, by :func:`mutators.costs.elastic_table.cost_table`.
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
            :func:`mutators.costs.count_macs`.

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
    table = table_for(self, metrics, cost_table, input_shape, data, checkpoint, seed, progress, ignore)
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
        return found(self.space, evolve(evolution, scorer, trials, "searching"), table, pareto)
    measured: dict[Tokens, float] = {}
    if not isinstance(predictor, AccuracyPredictor):
        measured = evolve(first, scorer, predictor, "measuring")
        predictor = _fitted(self, measured, seed, progress)
    for tokens in _ranked(evolve(evolution, partial(_predicted, predictor), trials, "predicting"))[:top_k]:
        measured[tokens] = scorer(tokens)
    return found(self.space, measured, table, pareto, predictor.ranking)


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
    return Anatomy(ofa.model).effective if is_elastic(ofa.model) else lambda tokens: tokens


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
    scores: dict[Tokens, float] = {}
    best = -math.inf
    with bar_of(trials, show, what) as bar:
        while len(scores) < trials and (proposals := search.ask(1)):
            (proposal,) = proposals
            tokens = effective(proposal.tokens)
            if tokens not in scores:
                scores[tokens] = score(tokens)
                best = max(best, scores[tokens])
                bar.set_postfix(best=f"{best:.4f}", refresh=False)
                bar.update()
            search.tell(proposal.uid, scores[tokens])
    return scores


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
