"""What the trial that runs in this process was given, where a search calls a function and no experiment runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_parameters: ContextVar[Mapping[str, object] | None] = ContextVar("parameters", default=None)


@contextmanager
def trial_of(parameters: Mapping[str, object]) -> Iterator[None]:
    """Let the trial's calls, such as ``hyperparameter``, find these parameters."""
    token = _parameters.set(parameters)
    try:
        yield
    finally:
        _parameters.reset(token)


def current_parameters() -> dict[str, object] | None:
    """Return the parameters of the trial that runs; None outside of :func:`trial_of`."""
    parameters = _parameters.get()
    return None if parameters is None else dict(parameters)
