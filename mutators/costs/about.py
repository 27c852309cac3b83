"""Describe a cost table: for which model and machine it is, how well it fits, and how far its measurement is."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mutators.inputs import Example, device_of, shape_of
from search_spaces.cost.table import CostTable
from search_spaces.schema import TokenArray

FloatArray = npt.NDArray[np.float64]
OnStep = Callable[[int, int], None]
"""Called with the number of steps done, and with that of all steps."""


class Steps:
    """A counter of the steps of a measurement, of which ``total`` are expected."""

    def __init__(self, total: int, on_step: OnStep | None) -> None:
        self._done, self._total, self._on_step = 0, total, on_step

    def count(self) -> None:
        """Count one step; where more than expected are done, the total grows."""
        self._done += 1
        self._total = max(self._total, self._done)
        if self._on_step is not None:
            self._on_step(self._done, self._total)


def describe_model(model: nn.Module, input_shape: Example) -> dict[str, Any]:
    """Return a model's class, its input and its device, as JSON."""
    return {
        "model": type(model).__name__,
        "input_shape": shape_of(input_shape),
        "device": str(device_of(model)),
        "torch": torch.__version__,
    }


def describe_latency(model: nn.Module, input_shape: Example, threads: int, **how: Any) -> dict[str, Any]:
    """Return where and how the latency of a model was measured, as JSON."""
    machine = platform.processor() or platform.machine()
    return {**describe_model(model, input_shape), "machine": machine, "threads": threads, **how}


def check_table(
    table: CostTable, samples: TokenArray, measured: Sequence[Mapping[str, int]], seed: int
) -> dict[str, Any]:
    """Return how far the table is from the costs of n whole architectures, (n, keys), drawn with a seed; as JSON."""
    errors = {}
    for metric in table.metrics:
        wanted = np.array([costs[metric] for costs in measured], dtype=np.float64)
        errors[metric] = float((np.abs(table.costs(metric, samples) - wanted) / np.maximum(wanted, 1)).max(initial=0))
    return {
        "architectures": len(samples),
        "seed": seed,
        "max_relative_error": errors,
        "exact": {metric: error == 0 for metric, error in errors.items()},
    }


def compare_latency(predicted: FloatArray, measured: FloatArray) -> dict[str, Any]:
    """Return how far predicted milliseconds, (n,), are from measured ones, (n,).

    Returns: ``mean_absolute_error_percent`` of what was measured; ``spread_ms``, which nine in ten predictions are off
        by at most, so that limits cannot be finer; ``rank_correlation``, Spearman's, None where one side is constant;
        and the measured range, without which none of them means much.
    """
    from scipy.stats import spearmanr  # slow to import

    constant = any(values.min() == values.max() for values in (predicted, measured))
    return {
        "architectures": len(measured),
        "mean_absolute_error_percent": float(np.mean(np.abs(predicted - measured) / measured) * 100),
        "spread_ms": float(np.percentile(np.abs(predicted - measured), 90)),
        "rank_correlation": None if constant else float(spearmanr(predicted, measured).statistic),
        "measured_range_ms": [float(measured.min()), float(measured.max())],
    }
