"""``nas cost``: count what each option of a model's choices costs."""

from __future__ import annotations

import json
from argparse import Namespace

from mutators.costs import measure_cost
from nas_tuners.commands import CommandError, build_model
from search_spaces.cost import CostTable
from search_spaces.files import check_replaceable
from search_spaces.progress import Progress

QUIET = 5.0  # seconds before progress is shown


def execute(options: Namespace) -> int:
    """Write a table of ``macs``, ``params`` and, of quantized layers, ``bit_operations``; print the range of each."""
    check_replaceable(options.output, "cost table", is_table)
    model, shape = build_model(options.model), parse_shape(options.input)
    with Progress(None, "networks", "counting", quiet=QUIET) as progress:
        table = measure_cost(model, shape, progress=progress.at)
    table.save(options.output)
    check = table.about["check"]
    print(f"{options.output}: {len(table.space)} choices, {sum(table.space.radices)} options")
    for metric in table.metrics:
        error = check["max_relative_error"][metric]
        match = "exact" if check["exact"][metric] else f"off by up to {100 * error:.3g} %"
        print(f"{describe_metric(table, metric)}; {match} on {check['architectures']} random architectures")
    return 0


def is_table(content: bytes) -> bool:
    """Return whether the content of a file is a cost table."""
    try:
        CostTable.from_json(json.loads(content))
    except (ValueError, RecursionError):
        return False
    return True


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the shape that a text such as ``3,224,224`` means. Raises CommandError if it is not a shape."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise CommandError(f"--input is {text!r}, wanted a shape without the batch, such as 3,224,224.")
    return tuple(map(int, parts))


def describe_metric(table: CostTable, metric: str) -> str:
    """Return the range of a metric, and the part of it that no choice changes."""
    bounds, fixed = table.bounds(metric), table.fixed[metric]
    within = "" if bounds.exact else "within "
    ends = f"{_format_cost(bounds.low)} to {_format_cost(bounds.high)}"
    return f"{metric}: {within}{ends}, of which {_format_cost(fixed)} fixed"


def _format_cost(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
