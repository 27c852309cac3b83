"""Does it pay to evaluate what leads again? On NAS-Bench-Macro, where each trial sees one of three real trainings.

    python -m tests.benchmarks.noise --tables DIR --seeds 30

The first trial of a network sees one training, further ones the others. Prints what the best lacks, by the mean of its
three trainings, after so many trials, repeats included, and how many these are.
"""

from __future__ import annotations

import argparse
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from nas_tuners.search import Bayesian, Evolution, Search
from search_spaces import Space, Tokens
from tests.benchmarks.search_tasks import load_tables

BUDGETS = (60, 70, 100, 150)
OPTIMUM = 93.1267
MODES: dict[str, dict[str, Any]] = {
    "none": {},
    "auto": {"noise": "auto"},
    "repeats": {"noise": "repeats"},
}


def count_regret(search: Search, space: Space, rows: dict[Tokens, Any], seed: int) -> tuple[list[float], int]:
    """Return the regret of the best after each budget, and the number of repeats."""
    search.setup(space)
    seen, regrets = Counter[Tokens](), []
    for trial in range(1, max(BUDGETS) + 1):
        (proposal,) = search.ask()
        row = rows[proposal.tokens]
        search.tell(proposal.uid, float(row[f"acc{(seed + seen[proposal.tokens]) % 3}"]))
        seen[proposal.tokens] += 1
        if trial in BUDGETS:
            assert search.best is not None
            regrets.append(OPTIMUM - float(rows[search.best.tokens]["mean_acc"]))
    return regrets, sum(trial.again is not None for trial in search.trials.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=os.environ.get("NAS_TABLES"), help="the folder with tables.py")
    parser.add_argument("--seeds", type=int, default=30)
    options = parser.parse_args()
    space = Space.load(Path(options.tables) / "nas_bench_macro.json")
    rows = {tuple(map(int, key)): row for key, row in load_tables(options.tables).Macro().rows.items()}
    print(f"{'':20}" + "".join(f"{f'after {budget}':>17}" for budget in BUDGETS) + "   repeats")
    for make in (Bayesian, Evolution):
        for name, arguments in MODES.items():
            found = [count_regret(make(seed=s, **arguments), space, rows, s) for s in range(options.seeds)]
            regrets = np.array([regret for regret, _ in found])
            errors = regrets.std(axis=0, ddof=1) / math.sqrt(options.seeds)
            cells = [f"{f'{m:.3f} +- {e:.3f}':>17}" for m, e in zip(regrets.mean(axis=0), errors, strict=True)]
            again = np.mean([repeats for _, repeats in found])
            print(f"{f'{make.__name__}, {name}':20}" + "".join(cells) + f"{again:>10.0f}", flush=True)


if __name__ == "__main__":
    main()
