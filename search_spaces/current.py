"""What the trial that runs in this process was given, where a search calls a function and no experiment runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

Report = Callable[[object], bool]
"""Takes an intermediate result, returns whether the trial should go on."""


class TrialStopped(BaseException):
    """The search stops this trial early. ``except Exception`` lets it pass; ``finally`` runs."""


@dataclass(frozen=True)
class _Trial:
    parameters: Mapping[str, object]
    report: Report


_trial: ContextVar[_Trial | None] = ContextVar("trial", default=None)


@contextmanager
def trial_of(parameters: Mapping[str, object], report: Report = lambda _: True) -> Iterator[None]:
    """Let the trial's calls, such as ``hyperparameter`` and ``report_intermediate``, find whom to ask and tell."""
    token = _trial.set(_Trial(parameters, report))
    try:
        yield
    finally:
        _trial.reset(token)


def current_parameters() -> dict[str, object] | None:
    """Return the parameters of the trial that runs; None outside of :func:`trial_of`."""
    trial = _trial.get()
    return None if trial is None else dict(trial.parameters)


def report_current(metrics: object) -> bool:
    """Report an intermediate result of the trial that runs. Returns: False outside of :func:`trial_of`.

    Raises TrialStopped if the trial should not go on.
    """
    trial = _trial.get()
    if trial is None:
        return False
    if not trial.report(metrics):
        raise TrialStopped("the search stopped this trial early")
    return True
