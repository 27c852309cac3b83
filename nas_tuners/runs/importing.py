"""Take results of another run, or of NNI's export, into a run: an architecture is told by its choices alone.

A uid means something in its own run only, so that none is taken over. NNI's export pairs results with parameters
wrongly where trials run side by side; a result that says which uid it is of is paired anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from nas_tuners.runs.journal import JOURNAL
from nas_tuners.runs.run import ORIGINLESS, Run, load
from nas_tuners.search.earlier import Earlier
from nas_tuners.search.records import MetricError, SearchError, as_metrics, failure_in
from search_spaces.checks import is_int, is_number
from search_spaces.errors import ConstraintError
from search_spaces.renumbering import renumber

_SHOWN = 3  # reasons


@dataclass(frozen=True)
class Result:
    """The metrics of an architecture from elsewhere, or why they are not known."""

    choices: Any
    metrics: Any = None
    resource: int | None = None  # of a trial that was stopped early
    reason: str | None = None


@dataclass
class Imported:
    """Counts of the results that were imported, and of those that were not."""

    told: int = 0
    known: int = 0  # architectures that the run has proposed itself: its own results count
    refused: list[str] = field(default_factory=list)  # reasons

    def __str__(self) -> str:
        text = f"{self.told} told, {self.known} already known, {len(self.refused)} not taken"
        reasons = list(dict.fromkeys(self.refused))
        more = [f"and {len(reasons) - _SHOWN} more reasons"] if len(reasons) > _SHOWN else []
        return "\n  ".join([text, *reasons[:_SHOWN], *more])


def import_results(run: Run, results: Iterable[Result]) -> Imported:
    """Tell a run what architectures of its space were given elsewhere, if it does not know them.

    Raises JournalError if an event cannot be written.
    """
    done = Imported()
    for result in results:
        try:
            _take(run, result, done)
        except (MetricError, ConstraintError) as error:
            done.refused.append(str(error))
    return done


def _take(run: Run, result: Result, done: Imported) -> None:
    if result.reason is None and not isinstance(result.choices, Mapping):
        done.refused.append(f"its parameters are {result.choices!r:.60}, wanted an object {{key: choice}}")
        return
    choices = {} if result.reason is not None else renumber(result.choices, run.space)
    score_key = run.search.score_key
    reason = result.reason or "; ".join(run.space.problems(choices))
    reason = reason or failure_in(as_metrics(result.metrics, score_key)[score_key]) or ""
    if reason:
        done.refused.append(reason)
        return
    tokens = run.space.encode(choices)
    if run.search.known(tokens):
        done.known += 1
        return
    uid = run.suggest(tokens).uid
    done.told += 1
    try:
        run.tell(uid, result.metrics, resource=result.resource)
    except SearchError as error:  # the result is kept all the same
        run.note(str(error))


def results_of(other: Run) -> list[Result]:
    """Return the results of a run that mean something elsewhere: of whole trials and of those stopped early."""
    return [
        Result(trial.space.decode(trial.tokens), trial.metrics, trial.resource)
        for trial in other.search.trials.values()
        if trial.state in ("told", "stopped") and not trial.provisional
    ]


def earlier_results(run: Run | str | PathLike[str], score_key: str = "default") -> Earlier:
    """Return the results of a run, to begin another search from: ``Bayesian(warm_start=[earlier_results("runs/1")])``.

    Args:
        run: a run, its folder, or its journal.
        score_key: which of several metrics counts.

    Raises:
        JournalError: there is no such journal, or it cannot be read.
    """
    if not isinstance(run, Run):
        path = Path(run)
        run, _ = load(path / JOURNAL if path.is_dir() else path)
    told = [trial for trial in run.search.trials.values() if trial.state == "told" and not trial.provisional]
    pairs = [(trial.tokens, (trial.metrics or {}).get(score_key)) for trial in told if trial.space == run.space]
    known = [(tokens, float(score)) for tokens, score in pairs if is_number(score)]
    return Earlier(run.space, [tokens for tokens, _ in known], [score for _, score in known], run.optimize_mode)


def read_rows(rows: Iterable[Any]) -> list[Result]:
    """Return the results in rows of NNI, ``{"parameter": choices, "value": metric}``, each with the choices it is of.

    A row's parameters are those that NNI *meant* to give the trial. The result of a tuner of ours names its uid, and
    then the choices are those of the row whose parameters have it.
    """
    rows = [row if isinstance(row, Mapping) else {"parameter": row} for row in rows]
    meant = {(origin_in(p), uid): p for row in rows if (uid := uid_in(p := row.get("parameter"))) is not None}
    return [_read_row(row.get("parameter"), decode_metric(row.get("value")), meant) for row in rows]


def count_unchecked(rows: Iterable[Any]) -> int:
    """Return how many rows have a result that does not say which uid it is of, so that nothing pairs it anew."""
    pairs = [row for row in rows if isinstance(row, Mapping) and isinstance(row.get("parameter"), Mapping)]
    return sum(uid_in(decode_metric(row.get("value"))) is None for row in pairs)


def _read_row(parameters: Any, value: Any, meant: Mapping[tuple[str, int], object]) -> Result:
    uid = uid_in(value)
    if uid is not None and isinstance(parameters, Mapping):
        parameters = meant.get((origin_in(value, parameters), uid))
        if parameters is None:
            return Result(None, reason="NNI has paired it with the parameters of another trial, and has lost its own")
    result = make_result(parameters, value)
    return replace(result, reason=f"its trial failed: {result.reason}") if result.reason else result


def make_result(parameters: object, value: object) -> Result:
    """Return the result of a trial that reported ``value`` for ``parameters``."""
    if not isinstance(value, Mapping):
        return Result(parameters, value)
    if value.get("_failed") is not None:
        return Result(parameters, reason=str(value["_failed"]))
    stopped = value.get("_stopped")
    kept = {key: item for key, item in value.items() if not str(key).startswith("_")}
    return Result(parameters, kept, int(stopped) if is_int(stopped) else None)


def decode_metric(value: Any) -> Any:
    """Return a metric that NNI has kept, which it writes as a text of JSON, and often as a text of such a text."""
    for _ in range(2):
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return value
    return value


def uid_in(*values: object) -> int | None:
    """Return the uid inside the first of these parameters or metrics that has one."""
    uids = (value.get("_uid") for value in values if isinstance(value, Mapping))
    return next((int(uid) for uid in uids if is_int(uid)), None)


def origin_in(*values: object) -> str:
    """Return the id of the run that gave a uid to the first of these parameters or metrics that names one."""
    runs = (value.get("_run") for value in values if isinstance(value, Mapping))
    return next((run for run in runs if isinstance(run, str)), ORIGINLESS)
