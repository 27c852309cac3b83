"""How good are the searches? Mean regret on tables of real networks, whose optimum is known.

    python -m tests.benchmarks.search_quality --tables DIR --seeds 30 --budgets 50 100 200

DIR holds ``tables.py`` with the classes ``Macro`` and ``GraphCora``, their data, and a search space for each:
``nas_bench_macro.json``, ``nas_bench_graph.json``. Searches run one trial at a time and see what is reported. Optuna's
TPE and NNI's regularized evolution run beside ours where they are installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nas_tuners.search import Annealing, Evolution, RandomSearch, Search
from search_spaces import Choices, Space
from search_spaces.cost import CostTable

Evaluate = Callable[[Choices], float | None]
Searcher = Callable[[Space, Evaluate, int, int, dict[str, Any]], list[float]]


class Task:
    """A space, what an architecture scores there, the best score, and the limits to keep."""

    def __init__(self, name: str, space: Space, evaluate: Evaluate, optimum: float, **limits: Any) -> None:
        self.name, self.space, self.evaluate, self.optimum, self.limits = name, space, evaluate, optimum, limits


def tasks(folder: Path) -> Iterator[Task]:
    """The benchmark's tasks, from the tables in ``folder``."""
    spec = importlib.util.spec_from_file_location("tables", folder / "tables.py")
    assert spec is not None and spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    macro, graph = tables.Macro(), tables.GraphCora()
    space = Space.load(folder / "nas_bench_macro.json")
    yield Task("Macro", space, macro.query, 93.1267)
    limits = {"constraints": {"macs": 60e6}, "cost_table": macro_costs(space, macro)}
    yield Task("Macro, flops <= 60M", space, macro.query, 92.5667, **limits)
    yield Task("Graph-Cora", Space.load(folder / "nas_bench_graph.json"), graph.query, 0.8313)


def macro_costs(space: Space, macro: Any) -> CostTable:
    """The column ``flops`` as a sum over the layers, checked on every network."""
    cost = {key: tuple(map(int, key)) for key in macro.rows}
    flops = {tokens: float(macro.rows[key]["flops"]) for key, tokens in cost.items()}
    none = (0,) * 8
    options = {
        key: [flops[(*none[:i], option, *none[i + 1 :])] - flops[none] for option in range(3)]
        for i, key in enumerate(space.keys)
    }
    table = CostTable(space, {"macs": flops[none]}, {"macs": options})
    every = np.array(list(flops))
    assert np.allclose(table.costs("macs", every), list(flops.values()), rtol=1e-6)
    return table


def ours(make: Callable[..., Search], space: Space, evaluate: Evaluate, trials: int, seed: int, limits: Any) -> Any:
    """Scores in the order of the trials."""
    search, scores = make(seed=seed, **limits), []
    search.setup(space)
    for _ in range(trials):
        for proposal in search.ask(1):
            score = evaluate(proposal.choices)
            scores.append(-math.inf if score is None else score)
            _ = search.fail(proposal.uid) if score is None else search.tell(proposal.uid, score)
    return scores


def optuna_tpe(space: Space, evaluate: Evaluate, trials: int, seed: int, limits: Any) -> list[float]:
    """Optuna's TPE as it comes; a failure is pruned."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, scores = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed)), []
    for _ in range(trials):
        trial = study.ask()
        tokens = [
            trial.suggest_categorical(key, list(range(radix)))
            for key, radix in zip(space.keys, space.radices, strict=True)
        ]
        score = evaluate(space.decode(tokens))
        scores.append(-math.inf if score is None else score)
        study.tell(trial, score, state=None if score is not None else optuna.trial.TrialState.FAIL)
    return scores


def nni_regularized(space: Space, evaluate: Evaluate, trials: int, seed: int, limits: Any) -> list[float]:
    """NNI's RegularizedEvolutionTuner as it comes; it draws from the global generator, which is seeded for it."""
    import random

    from nni.algorithms.hpo.regularized_evolution_tuner import RegularizedEvolutionTuner

    random.seed(seed)
    tuner, scores = RegularizedEvolutionTuner(), []
    logging.getLogger("nni").setLevel(logging.ERROR)
    tuner.update_search_space(space.to_json())
    for number in range(trials):
        choices = tuner.generate_parameters(number)
        score = evaluate(choices)
        scores.append(-math.inf if score is None else score)
        if score is not None:
            tuner.receive_trial_result(number, choices, score)
        tuner.trial_end(number, score is not None)
    return scores


def searchers(task: Task) -> dict[str, Searcher]:
    """What to compare. Those that know no constraints stay away from a task that has them."""
    found: dict[str, Searcher] = {
        "Random": partial(ours, RandomSearch),
        "Annealing": partial(ours, partial(Annealing, init_temperature=task.optimum / 200)),
        "Evolution": partial(ours, Evolution),
        "Evolution generation": partial(ours, partial(Evolution, mode="generation")),
        "Evolution regularized": partial(ours, partial(Evolution, regularized=True)),
        "Evolution preset=spos": partial(ours, partial(Evolution, mode="generation", preset="spos")),
    }
    if not task.limits:
        if importlib.util.find_spec("optuna"):
            found["Optuna TPE"] = optuna_tpe
        if importlib.util.find_spec("nni"):
            found["NNI regularized"] = nni_regularized
    return found


def regrets(task: Task, search: Searcher, seeds: int, budgets: list[int]) -> Any:
    """Regret of the best so far. Returns: (seeds, budgets)."""
    runs = []
    for seed in range(seeds):
        best = np.maximum.accumulate(search(task.space, task.evaluate, max(budgets), seed, task.limits))
        runs.append([task.optimum - best[min(budget, len(best)) - 1] for budget in budgets])
    return np.array(runs)


def lead(regret: Any, random: Any) -> Any:
    """By how many standard errors of the difference the mean regret is below random search's. Returns: (budgets,)."""
    error = np.sqrt(regret.var(axis=0, ddof=1) / len(regret) + random.var(axis=0, ddof=1) / len(random))
    return (random.mean(axis=0) - regret.mean(axis=0)) / error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True, help="the folder with tables.py")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--budgets", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--only", default="", help="searches whose name contains this")
    options = parser.parse_args()
    for task in tasks(options.tables):
        heads = "".join(f"{f'after {budget}':>20}" for budget in options.budgets)
        about = "mean regret +- standard error, and the lead over random search in standard errors"
        print(f"\n{task.name}: {about}, {options.seeds} seeds\n{'':24}{heads}{'lead':>14}{'s':>8}")
        random = None
        for name, search in searchers(task).items():
            if options.only not in name and name != "Random":
                continue
            began = time.perf_counter()
            regret = regrets(task, search, options.seeds, options.budgets)
            random = regret if random is None else random  # it comes first
            mean, error = regret.mean(axis=0), regret.std(axis=0, ddof=1) / math.sqrt(options.seeds)
            cells = "".join(f"{f'{m:.5f} +- {e:.5f}':>20}" for m, e in zip(mean, error, strict=True))
            leads = "" if regret is random else " ".join(f"{value:.1f}" for value in lead(regret, random))
            print(f"{name:24}{cells}{leads:>14}{time.perf_counter() - began:8.1f}", flush=True)


if __name__ == "__main__":
    main()
