"""``nas cost``: what each option of a model's choices costs, counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nas_tuners.commands.model import built, progress, shape

if TYPE_CHECKING:
    from search_spaces.cost import CostTable


def cost(factory: str, input_shape: str, output: Path) -> list[str]:
    """Write a table of ``macs`` and ``params`` to ``output``.

    Args:
        factory: ``MODULE:FUNCTION`` that builds the model with its choices.
        input_shape: without the batch, such as ``3,224,224``.
        output: a file that tuners take as their cost_table.

    Returns: lines that say what is in it.

    Raises:
        CommandError, FactoryError: the model cannot be built.
        CostError: it cannot be counted.
    """
    from mutators.costs import measure_cost

    table = measure_cost(built(factory), shape(input_shape), progress=progress("counting"))
    table.save(output)
    check = table.about["check"]
    lines = [f"{output}: {len(table.space)} choices, {sum(table.space.radices)} options"]
    for metric in table.metrics:
        error = check["max_relative_error"][metric]
        match = "exact" if check["exact"][metric] else f"off by up to {100 * error:.3g} %"
        lines.append(f"{described(table, metric)}; {match} on {check['architectures']} random architectures")
    return lines


def described(table: CostTable, metric: str) -> str:
    """The range of a metric, and its fixed part."""
    found, fixed = table.bounds(metric), table.fixed[metric]
    within = "" if found.exact else "within "
    return f"{metric}: {within}{_number(found.low)} to {_number(found.high)}, of which {_number(fixed)} fixed"


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
