"""Check what a trial reports: a number, and beside it what JSON can carry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def to_number(metric: Any) -> float | int:
    """Return a Python number for a number, or for a tensor, array or NumPy scalar of one element.

    Raises:
        TypeError: it is something else.
    """
    value = _item(metric)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        shape = f" of shape {tuple(metric.shape)}" if hasattr(metric, "shape") else ""
        raise TypeError(
            f"the metric is a {type(metric).__name__}{shape}, wanted a number or a tensor of one element; "
            "report_final takes what else there is to say as keywords."
        )
    return value


def check_others(others: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is reported beside the metric, tensors of one element as numbers.

    Raises:
        ValueError: a name is "default" or begins with ``_``; all are named.
        TypeError: a value cannot be written as JSON; all are named.
    """
    reserved = [name for name in others if name == "default" or name.startswith("_")]
    if reserved:
        raise ValueError(f"these names are kept for the tuner: {reserved}. Give the results others.")
    values = {name: _item(value) for name, value in others.items()}
    wrong = [f"{name} ({type(value).__name__})" for name, value in values.items() if not _is_json(value)]
    if wrong:
        raise TypeError(f"these results cannot be written as JSON: {', '.join(wrong)}. Report numbers, texts or lists.")
    return values


def _item(value: Any) -> Any:
    """Return the one element of a tensor, an array or a NumPy scalar; anything else as it is."""
    size = value.numel() if hasattr(value, "numel") else getattr(value, "size", None)
    return value.item() if hasattr(value, "item") and size == 1 else value


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
