"""``nas latency``: measure how many milliseconds each option of a model's choices takes on this machine."""

from __future__ import annotations

from argparse import Namespace

from mutators.costs import measure_latency
from nas_tuners.commands import build_model
from nas_tuners.commands.cost import QUIET, describe_metric, is_table, parse_shape
from search_spaces.cost import CostTable
from search_spaces.files import check_replaceable
from search_spaces.progress import Progress


def execute(options: Namespace) -> int:
    """Write a table with the metric ``latency_ms``, and print how well its predictions match."""
    others = None if options.table is None else CostTable.load(options.table)
    check_replaceable(options.output, "cost table", is_table)
    model, shape = build_model(options.model), parse_shape(options.input)
    with Progress(None, "measurements", "measuring", quiet=QUIET) as progress:
        table = measure_latency(model, shape, others, threads=options.threads, progress=progress.at)
    table.save(options.output)
    about = table.about["latency_ms"]
    held_out, rank = about["held_out"], about["held_out"]["rank_correlation"]
    low, high = held_out["measured_range_ms"]
    where = f"{about['device']}, {about['threads']} threads, torch {about['torch']}"
    print(f"{options.output}: {', '.join(table.metrics)}; {where}")
    print(describe_metric(table, "latency_ms"))
    print(
        f"on {held_out['architectures']} other random architectures of {low:.4g} to {high:.4g} ms: predictions are off "
        f"by {held_out['mean_absolute_error_percent']:.2g} % on average, one in ten by {held_out['spread_ms']:.3g} ms "
        "or more, so that no limit can be finer; rank correlation " + ("undefined" if rank is None else f"{rank:.2f}")
    )
    return 0
