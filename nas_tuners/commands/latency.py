"""``nas latency``: how many milliseconds each option of a model's choices takes, measured on this machine."""

from __future__ import annotations

from pathlib import Path

from nas_tuners.commands.cost import described
from nas_tuners.commands.model import built, progress, shape


def latency(factory: str, input_shape: str, output: Path, table: Path | None, threads: int | None) -> list[str]:
    """Write a table with the metric ``latency_ms`` to ``output``.

    Args:
        factory: ``MODULE:FUNCTION`` that builds the model with its choices.
        input_shape: without the batch, such as ``3,224,224``.
        output: a file that tuners take as their cost_table.
        table: whose other metrics to keep, such as that of ``nas cost``; may be ``output`` itself.
        threads: of torch; None leaves them as they are.

    Returns: lines that say what is in it.

    Raises:
        CommandError, FactoryError: the model cannot be built.
        CostError: it cannot be run, or ``table`` cannot be read or is of another space.
    """
    from mutators.costs import measure_latency
    from search_spaces.cost import CostTable

    others = None if table is None else CostTable.load(table)
    measured = measure_latency(
        built(factory), shape(input_shape), others, threads=threads, progress=progress("measuring")
    )
    measured.save(output)
    about = measured.about["latency_ms"]
    held_out, rank = about["held_out"], about["held_out"]["rank_correlation"]
    low, high = held_out["measured_range_ms"]
    return [
        f"{output}: {', '.join(measured.metrics)}; "
        f"{about['device']}, {about['threads']} threads, torch {about['torch']}",
        described(measured, "latency_ms"),
        f"on {held_out['architectures']} other random architectures of {low:.4g} to {high:.4g} ms: predictions are off "
        f"by {held_out['mean_absolute_error_percent']:.2g} % on average, rank correlation "
        + ("undefined" if rank is None else f"{rank:.2f}"),
    ]
