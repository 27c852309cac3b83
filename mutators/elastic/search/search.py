"""Search for a sub-network by evolution under limits, scored by the supernet's weights. After Once-for-All's finder.

Differs: MIT's last generation is scored and never looked at, its architectures repeat, limits that cannot be kept hang
it, and it is neither seeded nor resumable; PaddleSlim's ``OFA.search`` is empty. Here every score counts, nothing is
scored twice, and the winner of a predictor is measured before it is believed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from os import PathLike
from typing import Any, TypedDict

from mutators.choices.errors import ElasticError, OneShotError
from mutators.costs.count import Ignore
from mutators.elastic.model import Supernet
from mutators.elastic.search.journal import digest_of, open_run
from mutators.elastic.search.predictor import AccuracyPredictor
from mutators.elastic.search.results import SearchResult, costs_by_metric, make_result
from mutators.elastic.search.table import find_table
from mutators.inputs import Example
from mutators.oneshot.scoring import Metric, accuracy, evaluate
from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.loop import run_search
from nas_tuners.runs.run import Run
from nas_tuners.search import Evolution, RandomSearch
from search_spaces.checks import whole
from search_spaces.cost.limits import Constraints, limits_of
from search_spaces.cost.table import CostTable
from search_spaces.progress import Progress
from search_spaces.schema import Choices, Space, Tokens

Score = Callable[[Tokens], float]


class SearchOptions(TypedDict, total=False):
    """Options of :meth:`mutators.elastic.OFA.search`; all have defaults.

    Attributes:
        calibration: training batches to recompute batch norms on; None: the statistics in the supernet are used,
            which are a mixture.
        input_shape: of the costs, without the batch; None: that of ``data``.
        cost_table: of this model, or its path; None: one is made, by
            :func:`mutators.costs.elastic_table.cost_table`.
        trials: number of sub-networks to score, all different; with a predictor, to predict. 200.
        population: number of sub-networks drawn at random first; a quarter as many are the parents. 50.
        seed: of the search, and of the batches that all candidates are scored on. 0.
        pareto: a metric: return the front of score against it, too.
        predictor: ranks candidates instead of the supernet; or the number of random sub-networks, measured by the
            supernet, to fit one to, whose rank correlation is shown. The supernet measures the best in the end.
        top_k: number of sub-networks, of those that the predictor ranks first, to measure. 10.
        checkpoint: path of a journal, which ``nas show`` reads; a search that was killed goes on with it as the
            unbroken one. Measured milliseconds stand in the file of this name with ``.costs.json`` added.
        metric: (outputs, targets) to a number, higher is better, the mean over the batch. Accuracy.
        batches: number of batches of the calibration at most; None: all. 20.
        valid_batches: number of batches of ``data``; None: all.
        progress: whether to show the best so far and the time that is left on stderr. True.
        ignore: modules that cost nothing although they have parameters, such as positions that are added; see
            :func:`mutators.costs.count_macs`.
    """

    calibration: Iterable[Any] | None
    input_shape: Example | None
    cost_table: CostTable | str | PathLike[str] | None
    trials: int
    population: int
    seed: int
    pareto: str | None
    predictor: AccuracyPredictor | int | None
    top_k: int
    checkpoint: str | PathLike[str] | None
    metric: Metric
    batches: int | None
    valid_batches: int | None
    progress: bool
    ignore: Ignore


def search_subnets(
    supernet: Supernet,
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
) -> SearchResult:
    """Search for the best sub-network; arguments and errors as of :meth:`mutators.elastic.OFA.search`."""
    _check({"trials": trials, "population": population, "top_k": top_k}, data, calibration, predictor)
    assert data is not None
    metrics = list(dict.fromkeys([*(limit.metric for limit in limits_of(constraints)), *([pareto] if pareto else [])]))
    table = find_table(supernet, metrics, cost_table, input_shape, data, checkpoint, seed, progress, ignore)
    limits, limited = constraints or None, table if constraints else None
    evolution = Evolution(population, max(population // 4, 1), constraints=limits, seed=seed, cost_table=limited)
    given = {"seed": seed, "calibrated": calibration is not None, "batches": batches, "valid_batches": valid_batches}
    scoring = {"weights": digest_of(supernet.model), "metric": _name(metric), **given}
    measure = partial(
        evaluate,
        supernet.runnable,
        valid_loader=data,
        calibration_loader=calibration,
        batches=batches,
        valid_batches=valid_batches,
        seed=seed,
        metric=metric,
    )
    score = partial(_score, measure, supernet.space)
    first = evolution if predictor is None else RandomSearch(seed, limits, limited)
    run = open_run(first, supernet.space, checkpoint, scoring)
    try:
        scores = _Scores(run, score, table, progress)
        if predictor is None:
            return make_result(supernet.space, scores.extend(trials, "searching"), table, pareto)
        measured: dict[Tokens, float] = {}
        if not isinstance(predictor, AccuracyPredictor):
            measured = scores.extend(predictor, "measuring")
            predictor = _fit(supernet, measured, seed, progress)
        predicted = _Scores(Run.start(evolution, supernet.space), partial(_predict, predictor), None, progress)
        measured |= scores.measure(_rank(predicted.extend(trials, "predicting"))[:top_k])
        return make_result(supernet.space, measured, table, pareto, predictor.ranking)
    except JournalError as error:
        raise ElasticError(f"the checkpoint cannot be used: {error}") from error
    finally:
        run.close()


def _name(metric: Metric) -> str:
    """Return the name of a metric, which is a function or an object that is called."""
    return getattr(metric, "__qualname__", type(metric).__qualname__)


def _rank(scores: Mapping[Tokens, float]) -> list[Tokens]:
    """Return the architectures with the highest scores first; of equals the earlier."""
    return sorted(scores, key=scores.__getitem__, reverse=True)


def _check(numbers: Mapping[str, object], data: object, calibration: object, predictor: object) -> None:
    wrong = [problem for name, number in numbers.items() for problem in whole(name, number, 1)]
    if data is None:
        wrong.append("data is missing: batches (inputs, targets) that were not trained on")
    wrong += [
        f"{name} is an iterator, wanted a loader that can start again for every sub-network"
        for name, loader in (("data", data), ("calibration", calibration))
        if isinstance(loader, Iterator)
    ]
    if not isinstance(predictor, AccuracyPredictor) and whole("predictor", predictor, 1, optional=True):
        wrong.append(f"predictor is {predictor!r}, wanted a predictor, or the number of sub-networks to fit one to")
    if wrong:
        raise ElasticError("this cannot be searched:", wrong)


class _Failed(KeyboardInterrupt):
    """An evaluation failed. Of interrupts, as all else is a failed trial to the loop, but this ends the search.

    The sub-network stays pending in the journal, so that a later search measures it again.
    """


class _Scores:
    """The scores of a run's sub-networks, by their tokens and in the order of measuring.

    Costs of the table are journaled with each score.
    """

    def __init__(self, run: Run, score: Score, table: CostTable | None, show: bool) -> None:
        self._run, self._score, self._table, self._show = run, score, table, show
        trials = run.search.trials.values()
        self._known = {t.tokens: float(t.metrics["default"]) for t in trials if t.metrics is not None}

    def __call__(self, choices: Choices) -> dict[str, float]:
        """Return the score of a sub-network, and its costs."""
        tokens = self._run.space.encode(choices)
        if tokens not in self._known:
            try:
                self._known[tokens] = self._score(tokens)
            except Exception as error:
                raise _Failed from error
        return {**costs_by_metric(self._table, tokens), "default": self._known[tokens]}

    def extend(self, trials: int, task: str) -> dict[Tokens, float]:
        """Ask for sub-networks and score them until ``trials`` are known, or there are no more. Returns: the first."""
        with Progress(trials, "sub-networks", task, done=min(len(self._known), trials), show=self._show) as shown:
            shown.note = self._best
            before = -1
            while len(self._known) < trials and self._resolved > before:
                before = self._resolved
                self._evaluate(before + trials - len(self._known), lambda _: shown.at(min(len(self._known), trials)))
        return dict(islice(self._known.items(), trials))

    def measure(self, subnets: Iterable[Tokens]) -> dict[Tokens, float]:
        """Score these sub-networks, as far as they are not known. Returns: their scores."""
        wanted = list(subnets)
        for tokens in wanted:
            if tokens not in self._known and not self._run.search.known(tokens):
                self._run.suggest(tokens)
        if self._run.search.counts.pending:
            self._evaluate(self._run.search.counts.asked, lambda _: None)
        return {tokens: self._known[tokens] for tokens in wanted}

    @property
    def _resolved(self) -> int:
        return self._run.search.counts.ended

    def _best(self) -> str:
        best = self._run.search.best
        return "" if best is None else f"best {best.score:.4f}"

    def _evaluate(self, trials: int, report: Callable[[Run], None]) -> None:
        try:
            run_search(self._run, self, trials, on_progress=report)
        except _Failed as failed:
            assert isinstance(failed.__cause__, Exception)
            raise failed.__cause__ from failed.__cause__.__cause__


def _score(measure: Callable[[Choices], Mapping[str, Any]], space: Space, tokens: Tokens) -> float:
    """Return the score of a sub-network. Raises an ElasticError if it cannot be evaluated or the metric gives none."""
    try:
        scores = measure(space.decode(tokens))
    except OneShotError as error:
        raise ElasticError(f"a sub-network cannot be scored: {error}") from error
    if "default" not in scores:
        raise ElasticError(f"the metric gives {sorted(scores)}, wanted a number, or numbers with one as 'default'.")
    return float(scores["default"])


def _fit(supernet: Supernet, measured: Mapping[Tokens, float], seed: int, show: bool) -> AccuracyPredictor:
    predictor = AccuracyPredictor(supernet.model, seed)
    ranking = predictor.fit(list(measured), list(measured.values()))
    if show:
        sys.stderr.write(f"predictor ({predictor.kind}): {ranking}\n")
    return predictor


def _predict(predictor: AccuracyPredictor, tokens: Tokens) -> float:
    return float(predictor.predict([tokens])[0])
