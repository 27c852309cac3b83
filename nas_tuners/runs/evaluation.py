"""Evaluating an architecture by a function of the user's own, whatever that raises or returns."""

from __future__ import annotations

import difflib
import importlib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces import Choices

Evaluate = Callable[[Choices], Any]
"""Takes choices; returns a number, or a dict with the number to optimize under the search's ``score_key``."""

_REASON = 500  # characters of an error that are kept
_FAILURES = (Exception, SystemExit)  # a call of sys.exit does not end the search; Ctrl-C does


class EvaluateError(ValueError):
    """The function that evaluates cannot be found or imported."""


@dataclass(frozen=True)
class Imported:
    """A function by its name, imported where it is called: other processes can be given it.

    Args:
        name: ``module:function``.

    >>> Imported("builtins:len")({"conv": {"_value": "3x3", "_idx": 0}})
    1
    """

    name: str

    def find(self) -> Evaluate:
        """Return the function, not called.

        Raises:
            EvaluateError: there is none of this name, or its module cannot be imported.
        """
        module, colon, attribute = self.name.partition(":")
        if not colon or not attribute.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
            raise EvaluateError(f'the function is named {self.name!r}, wanted "module:function".')
        try:
            home = importlib.import_module(module)
        except _FAILURES as error:  # whatever the author's module raises when it is imported
            raise EvaluateError(f"{self.name} cannot be imported: {reason_of(error)}") from error
        found = getattr(home, attribute, None)
        if not callable(found):
            got = f"has no {attribute}" if found is None else f"has a {type(found).__name__} of that name"
            near = difflib.get_close_matches(attribute, [n for n, v in vars(home).items() if callable(v)], n=1)
            meant = f": did you mean {module}:{near[0]}?" if near else ": wanted a function."
            raise EvaluateError(f"{self.name} is no function: {module} {got}{meant}")
        return found  # type: ignore[no-any-return]

    def __call__(self, choices: Choices) -> Any:
        return self.find()(choices)


@dataclass(frozen=True)
class Outcome:
    """What came of an evaluation: metrics, or the reason why there are none."""

    metrics: Any = None
    reason: str | None = None


def evaluated(evaluate: Evaluate, choices: Choices) -> Outcome:
    """Call ``evaluate``; whatever it raises, but for Ctrl-C, is a failure with its reason."""
    try:
        return Outcome(_plain(evaluate(choices)))
    except _FAILURES as error:
        return Outcome(reason=reason_of(error))


def reason_of(error: BaseException) -> str:
    """One line: what was raised, and where.

    >>> reason_of(ValueError("too wide"))
    'ValueError: too wide'
    """
    said = " ".join(str(error).split())[:_REASON]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if len(frames) > 1 else ""
    return type(error).__name__ + (f": {said}" if said else "") + where


def _plain(metrics: Any) -> Any:
    """Numbers of NumPy and torch as Python's own: the same object as a journal gives back."""
    if isinstance(metrics, Mapping):
        return {str(name): _plain(value) for name, value in metrics.items()}
    return metrics.tolist() if hasattr(metrics, "tolist") else metrics
