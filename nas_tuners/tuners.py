"""The tuners that an experiment's configuration names: one for each algorithm of the table."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas_tuners.hosts.nni.experiments import journal_of
from nas_tuners.hosts.nni.tuner import SearchTuner, journal_path
from nas_tuners.runs.importing import earlier_results
from nas_tuners.runs.journal import has_begun, read
from nas_tuners.runs.run import arguments_in
from nas_tuners.search.algorithms import ALGORITHMS, Algorithm

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
            given["cost_table"] = locate(given["cost_table"])
        if given.get("warm_start"):
            given["warm_start"] = _read_runs(given["warm_start"], given.get("score_key", "default"))
        SearchTuner.__init__(self, search(**given), **tuning)

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    about = f"{algorithm.summary}\n\nSee {search.__name__} and SearchTuner."
    return type(algorithm.tuner, (SearchTuner,), {"__init__": __init__, "__doc__": about, "__module__": __name__})


def _read_runs(runs: Any, score_key: str) -> Any:
    """Return the results of runs, each named by its folder, its journal, or an experiment's id.

    A resumed experiment takes them from its own journal: the runs may have grown since, or be gone.
    """
    own = journal_path()
    if own is not None and has_begun(own):
        return arguments_in(read(own)[0][0]).get("warm_start")
    if isinstance(runs, str) or not isinstance(runs, Sequence):
        raise ValueError(f"warm_start is {runs!r}, wanted a list of runs, such as [runs/1].")
    return [earlier_results(journal_of(str(locate(run))), score_key) if isinstance(run, str) else run for run in runs]


def locate(given: Any) -> Any:
    """Find a file or folder beside the tuner's code: NNI runs it elsewhere, with ``codeDirectory`` on the path."""
    if not isinstance(given, (str, Path)) or Path(given).exists():
        return given
    return next((path for folder in reversed(sys.path) if (path := Path(folder, given)).exists()), given)
