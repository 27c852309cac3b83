"""Evaluate an architecture by a user's function, whatever that raises or returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces import Choices
from search_spaces.current import trial_of
from search_spaces.resolve import FAILURES, reason_of, resolve

Evaluate = Callable[[Choices], Any]
"""Takes choices, returns a number, or a dict with the number to optimize under the search's ``score_key``."""


class EvaluateError(ValueError):
    """The function that evaluates cannot be found or imported."""


@dataclass(frozen=True)
class NamedFunction:
    """A function by its name, imported where it is called, so that it can be sent to other processes.

    >>> NamedFunction("builtins:len")({"conv": {"_value": "3x3", "_idx": 0}})
    1
    """

    name: str  # ``module:function``

    def find(self) -> Evaluate:
        """Return the function, not called.

        Raises EvaluateError if there is no such function, or its module cannot be imported.
        """
        return resolve(self.name, EvaluateError)

    def __call__(self, choices: Choices) -> Any:
        return self.find()(choices)


@dataclass(frozen=True)
class Outcome:
    """The metrics of an evaluation, or the reason why there are none."""

    metrics: Any = None
    reason: str | None = None


def evaluate_choices(evaluate: Evaluate, choices: Choices) -> Outcome:
    """Call ``evaluate``; whatever it raises is a failure with its reason, except for Ctrl-C."""
    try:
        with trial_of(choices):
            return Outcome(_to_python(evaluate(choices)))
    except FAILURES as error:
        return Outcome(reason=reason_of(error))


def _to_python(metrics: Any) -> Any:
    """Return metrics with NumPy's and torch's numbers as Python's, as a journal gives them back."""
    if isinstance(metrics, Mapping):
        return {str(name): _to_python(value) for name, value in metrics.items()}
    return metrics.tolist() if hasattr(metrics, "tolist") else metrics
