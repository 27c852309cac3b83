"""The search side: searches, and the tuners that run them under NNI. Names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_tuners.adapter import SearchTuner
    from nas_tuners.loop import run_search
    from nas_tuners.run import Run
    from nas_tuners.sanas import SANAS, SANASError, SearchFinished
    from nas_tuners.tuners import AnnealingTuner, EvolutionTuner, ProgressiveShrinkingTuner, RandomTuner

__all__ = [
    "SANAS",
    "AnnealingTuner",
    "EvolutionTuner",
    "ProgressiveShrinkingTuner",
    "RandomTuner",
    "Run",
    "SANASError",
    "SearchFinished",
    "SearchTuner",
    "run_search",
]

_HOME = {
    "AnnealingTuner": "tuners",
    "EvolutionTuner": "tuners",
    "ProgressiveShrinkingTuner": "tuners",
    "RandomTuner": "tuners",
    "Run": "run",
    "SANAS": "sanas",
    "SANASError": "sanas",
    "SearchFinished": "sanas",
    "SearchTuner": "adapter",
    "run_search": "loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
