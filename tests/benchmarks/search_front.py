"""How much of the front of accuracy and multiply-adds do searches find on NAS-Bench-Macro?

    python -m tests.benchmarks.search_front --tables DIR --seeds 30

Prints the share of the true front's hypervolume after 50, 100 and 150 trials. Its reference is the worst accuracy and
the highest cost of the table. NSGA-II of Optuna and of pymoo run beside ours where they are installed, with populations
as large.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nas_tuners.search import NSGA2, Bayesian, RandomSearch, Search
from nas_tuners.search.model.fronts import find_front
from nas_tuners.search.model.hypervolume import hypervolume
from search_spaces import Space, Tokens
from tests.benchmarks.search_tasks import load_tables

BUDGETS = (50, 100, 150)
OBJECTIVES = {"default": "maximize", "flops": "minimize"}

Values = dict[Tokens, tuple[float, float]]


def ours(make: Callable[[int], Search], space: Space, values: Values, seed: int) -> list[Tokens]:
    """The architectures that a search of ours tries."""
    search, tried = make(seed), []
    search.setup(space)
    for _ in range(max(BUDGETS)):
        for proposal in search.ask():
            accuracy, cost = values[proposal.tokens]
            search.tell(proposal.uid, {"default": accuracy, "flops": -cost})
            tried.append(proposal.tokens)
    return tried


def optuna(space: Space, values: Values, seed: int) -> list[Tokens]:
    """The architectures that Optuna's NSGA-II tries."""
    import optuna

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.NSGAIISampler(seed=seed, population_size=20)
    study, tried = optuna.create_study(directions=["maximize", "maximize"], sampler=sampler), []
    for _ in range(max(BUDGETS)):
        trial = study.ask()
        tokens = tuple(trial.suggest_categorical(key, [0, 1, 2]) for key in space.keys)
        study.tell(trial, list(values[tokens]))
        tried.append(tokens)
    return tried


def pymoo(space: Space, values: Values, seed: int) -> list[Tokens]:
    """The architectures that pymoo's NSGA-II tries: uniform crossover, and each key drawn anew at a chance of 1/keys.

    Its mutation of choices draws half of all keys anew.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.mutation import Mutation
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    class Redraw(Mutation):
        def _do(self, problem: Any, X: Any, *args: Any, random_state: Any = None, **kwargs: Any) -> Any:
            drawn = random_state.integers(problem.xl, problem.xu + 1, size=X.shape)
            return np.where(random_state.random(X.shape) < 1 / X.shape[1], drawn, X)

    problem = Problem(n_var=len(space.keys), n_obj=2, xl=0, xu=np.array(space.radices) - 1, vtype=int)
    algorithm = NSGA2(pop_size=20, sampling=IntegerRandomSampling(), crossover=UX(prob=0.9), mutation=Redraw())
    algorithm.setup(problem, termination=("n_gen", 10**6), seed=seed, verbose=False)
    tried: list[Tokens] = []
    while len(tried) < max(BUDGETS):
        asked = algorithm.ask()
        rows = [tuple(map(int, row)) for row in asked.get("X")]
        asked.set("F", -np.array([values[row] for row in rows]))
        algorithm.tell(infills=asked)
        tried += rows
    return tried[: max(BUDGETS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=os.environ.get("NAS_TABLES"), help="the folder with tables.py")
    parser.add_argument("--seeds", type=int, default=30)
    options = parser.parse_args()
    macro, space = load_tables(options.tables).Macro(), Space.load(Path(options.tables) / "nas_bench_macro.json")
    values: Values = {
        tuple(map(int, key)): (float(row["mean_acc"]), -float(row["flops"]) / 1e6) for key, row in macro.rows.items()
    }
    every = np.array(list(values.values()))
    worst = every.min(axis=0)
    whole = hypervolume(every[find_front(every)], worst)
    searches: dict[str, Callable[[int], list[Tokens]]] = {
        "Bayesian": lambda seed: ours(lambda seed: Bayesian(objectives=OBJECTIVES, seed=seed), space, values, seed),
        "NSGA2": lambda seed: ours(lambda seed: NSGA2(OBJECTIVES, seed=seed), space, values, seed),
        "RandomSearch": lambda seed: ours(lambda seed: RandomSearch(seed=seed), space, values, seed),
    }
    if importlib.util.find_spec("optuna"):
        searches["Optuna NSGA-II"] = lambda seed: optuna(space, values, seed)
    if importlib.util.find_spec("pymoo"):
        searches["pymoo NSGA-II"] = lambda seed: pymoo(space, values, seed)
    print(f"{'':16}" + "".join(f"{f'after {budget}':>20}" for budget in BUDGETS))
    for name, search in searches.items():
        tried = [[values[tokens] for tokens in search(seed)] for seed in range(options.seeds)]
        shares: Any = np.array([[hypervolume(np.array(run[:b]), worst) / whole for b in BUDGETS] for run in tried])
        mean, error = shares.mean(axis=0), shares.std(axis=0, ddof=1) / math.sqrt(options.seeds)
        print(f"{name:16}" + "".join(f"{f'{m:.4f} +- {e:.4f}':>20}" for m, e in zip(mean, error, strict=True)))


if __name__ == "__main__":
    main()
