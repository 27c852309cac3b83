"""What a search with a supernet finds, against random networks of its cost and random search of its price.

Run: python -m tests.benchmarks.nas_bench_fashion.search fair --passes 15000 --seeds 3 -o runs/search
For each of three limits of macs: evolution by the supernet's score, then the best few are trained alone, once, and the
best of those by validation images is the winner. It is trained again from three seeds; only then are test images
looked at.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import search_spaces
from mutators.costs import measure_cost
from nas_tuners.search import Evolution
from search_spaces import Tokens
from search_spaces.cost import CostTable
from search_spaces.files import write_atomically
from tests.benchmarks.nas_bench_fashion.images import FOLDER, Images, read_images
from tests.benchmarks.nas_bench_fashion.make import NET, train_alone
from tests.benchmarks.nas_bench_fashion.methods import METHODS, Scorer
from tests.benchmarks.nas_bench_fashion.rank import score, train
from tests.benchmarks.nas_bench_fashion.table import EPOCHS, Table, read_table

SHARES = (0.25, 0.5, 0.75)
"""Of the table's networks that the three limits let through."""
EVALUATIONS, FINALISTS = 100, 3
JUDGES = (11, 12, 13)
"""The seeds of the winner's own trainings; none of them is among those by which it was chosen, or the table's."""


def limits(table: Table) -> list[int]:
    """Return the three limits of macs."""
    return [int(np.quantile(table.macs, share)) for share in SHARES]


def search(scorer: Scorer, costs: CostTable, limit: int, seed: int, images: Images) -> tuple[Tokens, float]:
    """Return the winner under a limit of macs, and the core-seconds that it took to find."""
    started = time.process_time()
    evolution = Evolution(seed=seed, constraints={"macs": limit}, cost_table=costs)
    evolution.setup(search_spaces.space_of(NET))
    scores: dict[Tokens, float] = {}
    while len(scores) < EVALUATIONS:
        for proposal in evolution.ask(1):
            scores[proposal.tokens] = score(scorer, proposal.tokens, images)["log_likelihood"]
            evolution.tell(proposal.uid, scores[proposal.tokens])
    finalists = sorted(scores, key=lambda tokens: -scores[tokens])[:FINALISTS]
    valid = {tokens: float(train_alone(tokens, 10, images)[1][f"valid_{EPOCHS}"]) for tokens in finalists}
    return max(finalists, key=lambda tokens: valid[tokens]), time.process_time() - started


def run(method: str, passes: int, seed: int, folder: Path, data: str) -> dict[str, Any]:
    """Train a supernet, search with it under each limit, train the winners, and keep what came out."""
    path = folder / f"{method}-{passes}-{seed}.json"
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    torch.set_num_threads(1)
    images, table = read_images(data), read_table()
    started = time.process_time()
    scorer = train(method, passes, seed, images)
    seconds = time.process_time() - started
    costs = measure_cost(search_spaces.build(NET), (1, 14, 14))
    rows = []
    for limit in limits(table):
        tokens, took = search(scorer, costs, limit, seed, images)
        judged = [float(train_alone(tokens, judge, images)[1][f"test_{EPOCHS}"]) for judge in JUDGES]
        macs = float(costs.costs("macs", np.array([tokens]))[0])
        rows.append({"limit": limit, "tokens": tokens, "macs": macs, "seconds": took, "test": judged})
    content = {"method": method, "passes": passes, "seed": seed, "seconds": seconds, "winners": rows}
    write_atomically(path, json.dumps(content).encode())
    return content


def compare(table: Table, winner: dict[str, Any], rng: np.random.Generator, trainings: int) -> dict[str, float]:
    """Return how a winner stands among the networks of the table at its cost.

    Ten random networks of its cost are drawn from those within a tenth below the limit; random search takes the best by
    validation images of ``trainings`` networks below the limit, each trained once, and is a mean over 2000 drawings.
    """
    limit, truth = winner["limit"], table.truth
    beside = np.flatnonzero((table.macs <= limit) & (table.macs >= 0.9 * limit))
    ten = truth[rng.choice(beside, 10, replace=False)]
    below = np.flatnonzero(table.macs <= limit)
    drawn = rng.choice(below, (2000, trainings))
    chosen = drawn[np.arange(2000), table.valid[drawn, 0, -1].argmax(axis=1)]
    test = np.array(winner["test"])
    error = np.hypot(test.std(ddof=1) / len(test) ** 0.5, ten.std(ddof=1) / 10**0.5)
    return {
        "winner": test.mean(),
        "ten": ten.mean(),
        "lead in errors": (test.mean() - ten.mean()) / error,
        "random search": truth[chosen].mean(),
        "better in the table": float((truth[beside] > test.mean()).mean()),
        "of": len(beside),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--passes", type=int, default=15_000, help="forward passes of the supernet's training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", default=FOLDER, help="four MNIST-like idx.gz files")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/search"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    table, rng = read_table(), np.random.default_rng(0)
    alone = table.seconds.mean()
    one = partial(run, options.method, options.passes, folder=options.output, data=options.data)
    with ProcessPoolExecutor(options.workers) as pool:
        for found in pool.map(one, range(options.seeds)):  # in order: what is drawn for comparison is then the same
            price = (found["seconds"] + sum(row["seconds"] for row in found["winners"])) / alone
            print(f"supernet of seed {found['seed']}: all three searches cost as much as {price:.0f} trainings")
            for row in found["winners"]:
                said = compare(table, row, rng, max(1, round(price)))
                print(f"  macs <= {row['limit']}: " + ", ".join(f"{name} {value:.3f}" for name, value in said.items()))


if __name__ == "__main__":
    main()
