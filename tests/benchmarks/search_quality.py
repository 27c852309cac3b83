"""Compare the searches: how far what they choose is from the best, after how many trials.

    python -m tests.benchmarks.search_quality --seeds 30 [--tables DIR] [--plot curves.png]

Without DIR: a model of NAS-Bench-Fashion, and landscapes of 10^12. A regret is what is missing to the best of the
table, by the best result that was seen so far, in the unit of the table. All of a table is of one run.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np

from nas_tuners.show.curves import draw_curves
from nas_tuners.testing.quality import Curve, mean_and_error, trace_regret
from nas_tuners.testing.tasks import Task, landscapes
from tests.benchmarks.search_tasks import own_table, tables
from tests.benchmarks.searchers import searchers

SLOW = ("Optuna GP", "SMAC3 forest", "SMAC3 GP", "syne-tune CQR")
"""They take half a second a trial, and more: with 30 seeds, days."""


@lru_cache(None)
def tasks(folder: Path | None) -> dict[str, Task]:
    """All tasks, by name."""
    found = chain(tables(folder) if folder else (), [own_table()], landscapes())
    return {task.name: task for task in found}


def run(folder: Path | None, task_name: str, name: str, trials: int, seed: int, pending: int) -> Curve:
    """Search once."""
    task = tasks(folder)[task_name]
    task.optimum(seed)  # whatever is made once is not measured
    began = time.perf_counter()
    tried = searchers(task)[name](task, task.sees(seed), trials, seed, pending)
    spent = time.perf_counter() - began
    return Curve(trace_regret(task, tried, trials, seed), len(set(tried)), 1e3 * spent / trials)


def report(name: str, curves: list[Curve], budgets: list[int], level: float) -> str:
    """One line: mean regrets with standard errors, trials to a level, distinct networks, time."""
    regret = np.array([curve.regret for curve in curves])
    mean, error = mean_and_error(regret)
    cells = "".join(f"{f'{mean[b - 1]:.4f} +- {error[b - 1]:.4f}':>19}" for b in budgets)
    reached = regret <= level + 1e-9
    first = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, np.inf)
    middle = np.median(first)
    trials = f"{middle:.0f}" if np.isfinite(middle) else "-"
    distinct, spent = np.mean([c.distinct for c in curves]), np.mean([c.milliseconds for c in curves])
    share = f"{int(reached.any(axis=1).sum())}/{len(curves)}"
    return f"{name:24}{cells}{trials:>7}{share:>7}{distinct:9.0f}{spent:9.1f}"


def draw(results: dict[str, dict[str, list[Curve]]], path: Path) -> None:
    """Draw the mean regret of each search against the trials, a panel for each task."""
    panels = {
        task: {name: mean_and_error(np.array([curve.regret for curve in curves])) for name, curves in found.items()}
        for task, found in results.items()
    }
    draw_curves(panels, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=os.environ.get("NAS_TABLES"), help="the folder with tables.py")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--budgets", type=int, nargs="+", default=[60, 100, 200])
    parser.add_argument("--pending", type=int, default=1, help="trials at once")
    parser.add_argument("--tasks", default="", help="those whose name contains this")
    parser.add_argument("--only", nargs="+", help="searches whose name contains one of these")
    parser.add_argument("--skip", nargs="*", default=SLOW, help=f"by default what takes too long: {', '.join(SLOW)}")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    folder, results = options.tables and Path(options.tables), {}
    heads = "".join(f"{f'after {budget}':>19}" for budget in options.budgets)
    with ProcessPoolExecutor(options.workers) as pool:
        for task in tasks(folder).values():
            if options.tasks not in task.name:
                continue
            level = task.optimum(0) * 1e-3 if "landscape" not in task.name else 0.5
            print(
                f"\n{task.name}: mean regret of {options.seeds} seeds; trials to {level:.2g}, in how many", flush=True
            )
            print(f"{'':24}{heads}{'trials':>7}{'':>7}{'distinct':>9}{'ms':>9}")
            for name in searchers(task):
                wanted = not options.only or any(part in name for part in options.only)
                if not wanted or name in options.skip:
                    continue
                jobs = [
                    pool.submit(run, folder, task.name, name, max(options.budgets), seed, options.pending)
                    for seed in range(options.seeds)
                ]
                results.setdefault(task.name, {})[name] = curves = [job.result() for job in jobs]
                print(report(name, curves, options.budgets, level), flush=True)
    if options.plot:
        draw(results, options.plot)
        print(f"\n{options.plot}")


if __name__ == "__main__":
    main()
