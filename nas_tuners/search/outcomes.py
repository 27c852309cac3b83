"""Limits on what trials report, such as a latency that is measured on the device: known only after the trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from search_spaces.checks import is_number
from search_spaces.cost.limits import Constraints, Limit, Multiple, limits_of
from search_spaces.errors import ConstraintError

BEYOND = 1e12
"""What is beyond a limit scores below minus this, where only the order of scores matters: the farther, the lower."""


class Outcomes:
    """The outcome constraints of a search.

    Args:
        given: as ``constraints``, but for multiples of the largest network's cost.

    Raises:
        ConstraintError: one is malformed.
    """

    def __init__(self, given: Constraints | None) -> None:
        self.limits: tuple[Limit, ...] = limits_of(given)
        relative = [str(one) for one in self.limits if isinstance(one.low, Multiple) or isinstance(one.high, Multiple)]
        if relative:
            raise ConstraintError(
                f"outcome_constraints: {', '.join(relative)}: what the largest network reports is not known; "
                "wanted a number in the units of the metric."
            )

    def find_missing(self, metrics: Mapping[str, Any]) -> str | None:
        """Return what is wrong with the metrics of a result: a limited one is no number; None if all are."""
        for limit in self.limits:
            value = metrics.get(limit.metric)
            if not is_number(value) or not math.isfinite(value):
                return f"the metric {limit.metric!r}, which outcome_constraints limit, is {value!r}: report a number"
        return None

    def measure_violation(self, metrics: Mapping[str, Any]) -> float:
        """Return how far metrics are beyond the limits, as parts of the limits, summed; 0 within all of them."""
        total = 0.0
        for limit in self.limits:
            value = float(metrics[limit.metric])
            end = limit.low if value < limit.low else limit.high
            total += float(limit.distance(np.array([value]))[0]) / (abs(end) or 1.0) if math.isfinite(end) else 0.0
        return total


def rank_violation(violation: float) -> float:
    """Return a score for what is beyond the limits, below all within them (constraint domination, Deb, 2000)."""
    return -BEYOND * (1 + violation)
