"""The searches that are compared: ours, and those of other libraries that are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial

from nas_tuners.search import Annealing, Bayesian, Evolution, LocalSearch, RandomSearch, Search
from nas_tuners.testing.quality import try_architectures
from nas_tuners.testing.tasks import Evaluate, Task
from search_spaces import Tokens
from tests.benchmarks import rivals

Searcher = Callable[[Task, Evaluate, int, int, int], list[Tokens]]
"""Task, what is seen, trials, seed, how many trials are pending at once: the architectures in the order of results."""


def ours(make: Callable[..., Search], task: Task, sees: Evaluate, trials: int, seed: int, pending: int) -> list[Tokens]:
    """A search of ours; the oldest pending trial ends first."""
    search = make(seed=seed, **task.limits)
    search.setup(task.space)
    return try_architectures(search, sees, trials, pending)


RIVALS: dict[str, tuple[str, Searcher]] = {
    "Optuna TPE": ("optuna", partial(rivals.optuna, "TPESampler")),
    "Optuna GP": ("optuna", partial(rivals.optuna, "GPSampler")),
    "nevergrad 1+1": ("nevergrad", partial(rivals.nevergrad, "DiscreteOnePlusOne")),
    "NNI evolution": ("nni", rivals.nni_evolution),
    "SMAC3 forest": ("smac", partial(rivals.smac, "HyperparameterOptimizationFacade")),
    "SMAC3 GP": ("smac", partial(rivals.smac, "BlackBoxFacade")),
    "syne-tune CQR": ("syne_tune", partial(rivals.syne_tune, "CQR")),
    "syne-tune aging 30/10": ("syne_tune", partial(rivals.syne_tune, "REA")),
}
"""By name, the module that it needs, and how it searches."""


def searchers(task: Task) -> dict[str, Searcher]:
    """What to compare, by name. Others' do not know limits of ours, and stay away from a task that has them."""
    found: dict[str, Searcher] = {
        "Bayesian": partial(ours, Bayesian),
        "LocalSearch": partial(ours, LocalSearch),
        "Evolution": partial(ours, Evolution),
        "Evolution, aging 30/10": partial(
            ours, partial(Evolution, regularized=True, candidate_pool_size=30, candidate_top_k=10)
        ),
        "Annealing": partial(ours, Annealing),
        "RandomSearch": partial(ours, RandomSearch),
    }
    if not task.limits:
        found |= {name: rival for name, (module, rival) in RIVALS.items() if importlib.util.find_spec(module)}
    return found
