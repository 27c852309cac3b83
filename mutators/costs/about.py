"""What a cost table says about itself: where it was made, and how far its sums are from whole networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mutators.costs.example import Example, shape_of
from search_spaces.cost.table import CostTable

FloatArray = npt.NDArray[np.float64]


def made_of(model: nn.Module, input_shape: Example) -> dict[str, Any]:
    """The model, its input and its device."""
    device = next((str(parameter.device) for parameter in model.parameters()), "cpu")
    return {
        "model": type(model).__name__,
        "input_shape": shape_of(input_shape),
        "device": device,
        "torch": torch.__version__,
    }


def checked(table: CostTable, samples: Any, measured: Sequence[Mapping[str, int]], seed: int) -> dict[str, Any]:
    """How far the table is from whole architectures.

    Args:
        table: of metrics that ``measured`` has.
        samples: (n, keys) tokens.
        measured: by metric, the cost of each of them.
        seed: that they were drawn with.
    """
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


def compared(predicted: FloatArray, measured: FloatArray) -> dict[str, Any]:
    """Return how far predictions are from measurements.

    Args:
        predicted: (n,)
        measured: (n,), positive.

    Returns: ``mean_absolute_error_percent`` of what was measured; ``rank_correlation``, Spearman's, None where one
        side is constant; and the measured range, without which neither means much.
    """
    from scipy.stats import spearmanr

    constant = any(values.min() == values.max() for values in (predicted, measured))
    return {
        "architectures": len(measured),
        "mean_absolute_error_percent": float(np.mean(np.abs(predicted - measured) / measured) * 100),
        "rank_correlation": None if constant else float(spearmanr(predicted, measured).statistic),
        "measured_range_ms": [float(measured.min()), float(measured.max())],
    }
