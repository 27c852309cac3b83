"""What an architecture costs: multiply-adds, parameters, milliseconds. Names load on first use; a table needs no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search_spaces.cost.table import CostError, CostTable

__all__ = ["CostError", "CostTable"]

_HOMES = {"CostError": "table", "CostTable": "table"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
