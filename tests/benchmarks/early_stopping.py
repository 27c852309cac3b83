"""How many epochs does a search need when it stops trials early? On NAS-Bench-Fashion, whose curves are real.

    python -m tests.benchmarks.early_stopping --seeds 100

All 400 networks of the table, in a random order, are trials of four epochs, which report the accuracy on validation
images after each. Prints the epochs until the best result is one of the best 1 % of that training, as a part of those
that it takes without stopping, and how many runs never found one. Optuna's pruners judge the same trials where it is
installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nas_tuners.search import RandomSearch
from search_spaces import Space
from tests.benchmarks.nas_bench_fashion.table import EPOCHS, read_table

CURVES = read_table().valid  # (networks, seeds, epochs)
NETWORKS = len(CURVES)
BEST = NETWORKS // 100

Judge = Callable[[int, int, float], bool]
"""Takes the number of a trial, an epoch from 1 and a value; returns whether the trial goes on."""


def ours(rule: Any) -> Judge:
    """A rule of ours."""
    search = RandomSearch(early_stopping=rule)
    search.setup(Space.from_json({"network": {"_type": "layer_choice", "_value": [str(i) for i in range(NETWORKS)]}}))
    search.ask(NETWORKS)

    def judge(trial: int, epoch: int, value: float) -> bool:
        return search.report(trial, value, epoch) if epoch < EPOCHS else search.tell(trial, value)

    return judge


def optuna(name: str, **numbers: Any) -> Judge:
    """A pruner of Optuna's."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", pruner=getattr(optuna.pruners, name)(**numbers))
    trials = {}

    def judge(trial: int, epoch: int, value: float) -> bool:
        if trial not in trials:
            trials[trial] = study.ask()
        trials[trial].report(value, epoch)
        stop = trials[trial].should_prune()
        if stop or epoch == EPOCHS:
            how: Any = {"state": optuna.trial.TrialState.PRUNED} if stop else {"values": value}
            study.tell(trials[trial], **how)
        return not stop

    return judge


def count_epochs(judge: Judge, seed: int) -> tuple[int, bool]:
    """Return the epochs until the best result is among the best, and whether it ever was."""
    curves = CURVES[:, seed % CURVES.shape[1]]
    best = set(np.argsort(-curves[:, -1], kind="stable")[:BEST].tolist())
    used = 0
    for trial, network in enumerate(np.random.default_rng(seed).permutation(NETWORKS).tolist()):
        for epoch in range(1, EPOCHS + 1):
            used += 1
            if not judge(trial, epoch, float(curves[network, epoch - 1])):
                break
        else:
            if network in best:  # it is better than all before
                return used, True
    return used, False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    options = parser.parse_args()
    rules: dict[str, Callable[[], Judge]] = {
        "none": lambda: ours("none"),
        "asha": lambda: ours("asha"),
        "asha, factor 9": lambda: ours({"rule": "asha", "reduction_factor": 9}),
        "median": lambda: ours("median"),
    }
    if importlib.util.find_spec("optuna"):
        rules |= {
            "Optuna SuccessiveHalving": lambda: optuna("SuccessiveHalvingPruner", reduction_factor=3),
            "Optuna Hyperband": lambda: optuna("HyperbandPruner", max_resource=EPOCHS),
            "Optuna Median": lambda: optuna("MedianPruner"),
        }
    whole = 1.0
    for name, make in rules.items():
        found = [count_epochs(make(), seed) for seed in range(options.seeds)]
        epochs = np.array([used for used, _ in found])
        whole = float(epochs.mean()) if name == "none" else whole
        mean, error = epochs.mean() / whole, epochs.std(ddof=1) / math.sqrt(options.seeds) / whole
        print(f"{name:26}{mean:.3f} +- {error:.3f}  never {sum(not ever for _, ever in found)}", flush=True)


if __name__ == "__main__":
    main()
