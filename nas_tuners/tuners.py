"""The tuners that an experiment's configuration names: one for each algorithm of the table."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from nas_tuners.hosts.nni.experiments import journal_of
from nas_tuners.hosts.nni.tuner import SearchTuner
from nas_tuners.runs.importing import earlier_results
from nas_tuners.search.algorithms import ALGORITHMS, Algorithm
from search_spaces.cost.limits import Table

_OWN = ("optimize_mode", "on_failure", "retries", "fixed")  # arguments of SearchTuner itself


def __getattr__(name: str) -> Any:  # a class derived from SearchTuner, with arguments that no type checker can know
    algorithm = next((algorithm for algorithm in ALGORITHMS.values() if algorithm.tuner == name), None)
    if algorithm is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = tuner = make_tuner(algorithm)
    return tuner


def make_tuner(algorithm: Algorithm) -> type[SearchTuner]:
    """Make a tuner of an algorithm. Its arguments, the ``classArgs``, are those of the search and of SearchTuner."""
    own, search = inspect.signature(SearchTuner.__init__).parameters, algorithm.search
    mode, *others = [own[name] for name in _OWN]
    parameters = [own["self"], mode, *algorithm.options.values(), *others]
    signature = inspect.Signature([p.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for p in parameters])

    def __init__(self: SearchTuner, *args: Any, **kwargs: Any) -> None:
        given = dict(signature.bind(self, *args, **kwargs).arguments)
        tuning = {name: given.pop(name) for name in _OWN if name in given}
        del given["self"]
        if "cost_table" in given:
            given["cost_table"] = locate_table(given["cost_table"])
        if given.get("warm_start"):
            key = given.get("score_key", "default")
            given["warm_start"] = [_read_run(run, key) for run in given["warm_start"]]
        SearchTuner.__init__(self, search(**given), **tuning)

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    about = f"{algorithm.summary}\n\nSee {search.__name__} and SearchTuner."
    return type(algorithm.tuner, (SearchTuner,), {"__init__": __init__, "__doc__": about, "__module__": __name__})


def _read_run(run: Any, score_key: str) -> Any:
    """Return the results of a run that is named by its folder, its journal, or an experiment's id."""
    return earlier_results(journal_of(run), score_key) if isinstance(run, str) else run


def locate_table(table: Table) -> Table:
    """Find a file beside the tuner's code: NNI runs it in its log folder, but puts ``codeDirectory`` on the path."""
    if not isinstance(table, (str, Path)) or Path(table).exists():
        return table
    return next((path for folder in reversed(sys.path) if (path := Path(folder, table)).is_file()), table)
