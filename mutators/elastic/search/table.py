"""The cost table that a search looks its limits up in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from mutators.costs.count import Ignore
from mutators.costs.elastic_table import cost_table
from mutators.costs.example import Example, shape_of
from mutators.elastic.given_depth import runnable
from mutators.elastic.layers.errors import ElasticError
from mutators.oneshot.data import walk_batches
from mutators.oneshot.rng import kept_rng
from search_spaces.cost.table import CostTable
from search_spaces.errors import CostError

if TYPE_CHECKING:
    from mutators.elastic.training.ofa import OFA


def table_for(
    ofa: OFA,
    metrics: Sequence[str],
    given: CostTable | str | PathLike[str] | None,
    input_shape: Example | None,
    data: Iterable[Any],
    checkpoint: str | PathLike[str] | None,
    seed: int,
    progress: bool,
    ignore: Ignore,
) -> CostTable | None:
    """The table that was given, or one that has all metrics; None if nothing is to be looked up."""
    if isinstance(given, (str, PathLike)):
        given = CostTable.load(given)
    if given is not None:
        missing = [metric for metric in metrics if metric not in given.metrics]
        if missing:
            raise CostError(f"the cost table has no metric {missing}, wanted some of {list(given.metrics)}.")
        return given.arranged(ofa.space)
    if not metrics:
        return None
    example = _example(data) if input_shape is None else input_shape
    kept = None if checkpoint is None else Path(f"{checkpoint}.costs.json")
    if kept is not None and kept.exists():  # measured milliseconds are never the same again
        table = CostTable.load(kept).arranged(ofa.space)
        if set(metrics) <= set(table.metrics) and table.about.get("input_shape") == shape_of(example):
            return table
    with bar_of(1, progress, "costs") as bar, kept_rng():
        table = cost_table(runnable(ofa), example, metrics, seed=seed, ignore=ignore, progress=_showing(bar))
    if kept is not None:
        table.save(kept)
    return table


def _showing(bar: Any) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        bar.total, bar.n = total, done
        bar.update(0)

    return show


def _example(data: Iterable[Any]) -> torch.Tensor:
    """One image of the first batch.

    Raises:
        ElasticError: there is no batch, or it does not begin with a tensor.
    """
    with kept_rng():
        batch = next(iter(walk_batches(data, 0)), None)
    inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
    if not isinstance(inputs, torch.Tensor):
        what = "data has no batches" if batch is None else f"a batch begins with a {type(inputs).__name__}"
        raise ElasticError(f"{what}, wanted (inputs, targets); or give input_shape or a cost_table.")
    example: torch.Tensor = inputs[:1]
    return example


def bar_of(total: int, show: bool, what: str) -> Any:
    interval = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, disable=not show, unit="net", desc=what, mininterval=interval)
