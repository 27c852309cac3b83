"""Find the cost table that a search looks its limits up in: given, kept beside the checkpoint, or made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from mutators.choices.errors import ElasticError
from mutators.costs.count import Ignore
from mutators.costs.elastic_table import cost_table
from mutators.elastic.model import Supernet
from mutators.inputs import Example, shape_of
from mutators.oneshot.data import walk_batches
from mutators.oneshot.rng import kept_rng
from search_spaces.cost.table import CostTable
from search_spaces.errors import CostError
from search_spaces.progress import Progress


def find_table(
    supernet: Supernet,
    metrics: Sequence[str],
    given: CostTable | str | PathLike[str] | None,
    input_shape: Example | None,
    data: Iterable[Any],
    checkpoint: str | PathLike[str] | None,
    seed: int,
    progress: bool,
    ignore: Ignore,
) -> CostTable | None:
    """Return the table that was given, or one that has all metrics; None if there are none.

    Raises:
        CostError: the table that was given lacks a metric or is of another space, or none can be made.
        ElasticError: ``data`` has no input to make one with.
    """
    if isinstance(given, (str, PathLike)):
        given = CostTable.load(given)
    if given is not None:
        missing = [metric for metric in metrics if metric not in given.metrics]
        if missing:
            raise CostError(f"the cost table has no metric {missing}, wanted some of {list(given.metrics)}.")
        return given.arranged(supernet.space)
    if not metrics:
        return None
    example = _first_input(data) if input_shape is None else input_shape
    kept = None if checkpoint is None else Path(f"{checkpoint}.costs.json")
    if kept is not None and kept.exists():  # milliseconds that are measured again differ
        table = CostTable.load(kept).arranged(supernet.space)
        if set(metrics) <= set(table.metrics) and table.about.get("input_shape") == shape_of(example):
            return table
    with Progress(None, "networks", "costs", show=progress) as shown, kept_rng():
        table = cost_table(supernet.runnable, example, metrics, seed=seed, ignore=ignore, progress=shown.at)
    if kept is not None:
        table.save(kept)
    return table


def _first_input(data: Iterable[Any]) -> torch.Tensor:
    """Return one input of the first batch, as a batch. Raises an ElasticError if there is none."""
    with kept_rng():
        batch = next(iter(walk_batches(data, 0)), None)
    inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(inputs, torch.Tensor):
        what = "data has no batches" if batch is None else f"a batch begins with a {type(inputs).__name__}"
        raise ElasticError(f"{what}, wanted (inputs, targets); or give input_shape or a cost_table.")
    example: torch.Tensor = inputs[:1]
    return example
