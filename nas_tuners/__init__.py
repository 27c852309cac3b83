"""Search: tuners that run under NNI, and the same searches without it. Names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas_tuners.search.algorithms import ALGORITHMS
from search_spaces.lazy import lazy_names

if TYPE_CHECKING:
    from nas_tuners.hosts.nni.tuner import SearchTuner as SearchTuner
    from nas_tuners.runs.loop import run_search as run_search
    from nas_tuners.runs.run import Run as Run
    from nas_tuners.tuners import AnnealingTuner as AnnealingTuner
    from nas_tuners.tuners import EvolutionTuner as EvolutionTuner
    from nas_tuners.tuners import ProgressiveShrinkingTuner as ProgressiveShrinkingTuner
    from nas_tuners.tuners import RandomTuner as RandomTuner

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".hosts.nni.tuner": ("SearchTuner",),
        ".runs.loop": ("run_search",),
        ".runs.run": ("Run",),
        ".tuners": [algorithm.tuner for algorithm in ALGORITHMS.values()],
    },
    moved={
        "SANAS": "nas_tuners.sanas.SANAS",
        "SANASError": "nas_tuners.sanas.SANASError",
        "SearchFinished": "nas_tuners.sanas.SearchFinished",
    },
)
