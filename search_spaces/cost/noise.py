"""Refuse limits that are finer than the measurement which they are compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping

from search_spaces.checks import is_number
from search_spaces.cost.table import CostTable
from search_spaces.errors import ConstraintError


def read_spread(table: CostTable, metric: str) -> float:
    """Return how far nine of ten predictions of a measured metric are at most from new measurements, in its unit.

    Measuring notes it in the table; 0 where it is not known, and for metrics that are counted.
    """
    about = table.about.get(metric)
    held_out = about.get("held_out") if isinstance(about, Mapping) else None
    spread = held_out.get("spread_ms") if isinstance(held_out, Mapping) else None
    return float(spread) if is_number(spread) and spread > 0 else 0.0


def check_noise(metric: str, low: float, high: float, table: CostTable) -> None:
    """Check that the table can tell what keeps a limit from what does not.

    Raises ConstraintError if an upper limit is less than the spread above the cheapest network, a lower one less than
    that below the most expensive, or a range is narrower. Limits that nothing or everything keeps are not of interest.
    """
    spread = read_spread(table, metric)
    if spread == 0:
        return
    bounds, problem = table.bounds(metric), ""
    if bounds.low <= high < bounds.high and high - bounds.low < spread:
        problem = f"the cheapest network has {bounds.low:.4g}, so wanted at least {bounds.low + spread:.4g}"
    elif bounds.low < low <= bounds.high and bounds.high - low < spread:
        problem = f"the most expensive network has {bounds.high:.4g}, so wanted at most {bounds.high - spread:.4g}"
    elif high - low < spread and math.isfinite(high - low):
        problem = f"the range is {high - low:.4g} wide, wanted at least {spread:.4g}"
    if problem:
        ends = [f"{low:.4g} <= "] * (low > -math.inf), [f" <= {high:.4g}"] * (high < math.inf)
        raise ConstraintError(
            f"{''.join(ends[0])}{metric}{''.join(ends[1])} is below the noise: one in ten predictions of this table is "
            f"off by {spread:.3g} ms or more, and {problem}. Or measure again on a machine that does nothing else."
        )
