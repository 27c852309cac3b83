"""Evaluate an architecture by a user's function, whatever that raises or returns."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nas_tuners.runs.journal import JournalError
from nas_tuners.search.records import MetricError, SearchError, as_metrics
from search_spaces import Choices
from search_spaces.current import TrialStopped, trial_of
from search_spaces.resolve import reason_of, resolve

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
    """The metrics of an evaluation, as plain JSON values, or the reason why there are none.

    Neither: it was stopped early, as the search knows.
    """

    metrics: dict[str, Any] | None = None
    reason: str | None = None


OnIntermediate = Callable[[Any, int], bool]
"""Takes an intermediate result and its number, from 1; returns whether the trial should go on."""


def evaluate_choices(
    evaluate: Evaluate, choices: Choices, score_key: str = "default", on_intermediate: OnIntermediate | None = None
) -> Outcome:
    """Call ``evaluate``; whatever it raises is a failure with its reason, except for Ctrl-C."""
    reports = itertools.count(1)

    def report(metrics: Any) -> bool:
        return on_intermediate is None or on_intermediate(metrics, next(reports))

    try:
        with trial_of(choices, report):
            return Outcome(as_metrics(evaluate(choices), score_key))
    except (KeyboardInterrupt, JournalError, SearchError):
        raise
    except TrialStopped:
        return Outcome()
    except MetricError as error:
        return Outcome(reason=str(error))
    except BaseException as error:  # also sys.exit, and what a user derived from BaseException
        return Outcome(reason=reason_of(error))
