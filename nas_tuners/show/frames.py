"""Show the trials of a run as a table of pandas: one row a trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas_tuners.runs.run import Run
from nas_tuners.search.records import Trial
from search_spaces.domains import Domain
from search_spaces.fixing import FixedDomain
from search_spaces.simple import simplify

_OWN = ("uid", "state")  # columns


class FrameError(RuntimeError):
    """A table cannot be made."""


def make_frame(run: Run) -> Any:
    """Return a DataFrame of the trials: uid, state, a column for each metric, and one for each key of the space.

    Keys that do not matter in a trial are missing there. Where names are equal, a metric is ``NAME (metric)``, and a
    key ``NAME (key)``.

    Raises:
        FrameError: pandas is missing.
    """
    try:
        import pandas
    except ImportError:
        raise FrameError("a table of the trials needs pandas: pip install pandas") from None
    trials = list(run.search.trials.values())
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.metrics or {}))
    keys = {key: f"{key} (key)" if key in _OWN else key for key in run.space.keys}
    names = {name: f"{name} (metric)" if name in {*_OWN, *keys} else name for name in metrics}
    rows = [_list_cells(trial, names, keys) for trial in trials]
    return pandas.DataFrame(rows, columns=[*_OWN, *names.values(), *keys.values()])


def _list_cells(trial: Trial, names: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, Any]:
    """Return the cells of a trial, by column."""
    tokens, domains = dict(zip(trial.space.keys, trial.tokens, strict=True)), trial.space.domains
    metrics = {names[name]: value for name, value in (trial.metrics or {}).items()}
    active = [key for key in trial.space.active_keys(tokens) if key in keys]  # others were in an earlier space
    options = {keys[key]: simplify(*_whole(domains[key], tokens[key])) for key in active}
    return {"uid": trial.uid, "state": trial.state, **metrics, **options}


def _whole(domain: Domain | FixedDomain, token: int) -> tuple[Domain, int]:
    return (domain.whole, domain.fixed) if isinstance(domain, FixedDomain) else (domain, token)
