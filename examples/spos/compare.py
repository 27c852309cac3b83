"""Step 4: the supernet and its winner against the table of truth: how well it ranks, how good the winner is, a picture.

The table (``tests/benchmarks/nas_bench_fashion``) has 400 networks of this space, each trained twice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "benchmarks" / "nas_bench_fashion"))
from net import FOLDER, build, score
from table import Table, read_table

from mutators import search_space_of
from nas_tuners.commands.ranking import compare_rankings, describe_rankers, describe_verdict
from search_spaces import Space
from search_spaces.progress import Progress


def scores_of(table: Table, count: int) -> np.ndarray:
    """Return the supernet's scores of the last networks of the table, (count,): by the first, methods were chosen."""
    space = Space.from_json(search_space_of(build()))
    scores = []
    with Progress(count, "networks", "scoring") as progress:
        for tokens in table.tokens[-count:].tolist():
            scores.append(score(space.decode(tokens)))
            progress.step()
    return np.array(scores)


def draw(path: Path, scores: np.ndarray, truth: np.ndarray, winner: float, accuracy: float) -> None:
    """Draw what the supernet says against what is, and the winner among them."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 5), layout="constrained")
    axes.scatter(scores, truth, s=12, label="networks of the table")
    axes.scatter([winner], [accuracy], marker="*", s=160, label="the winner")
    axes.set(xlabel="log likelihood, from the supernet's weights", ylabel="test accuracy, trained alone")
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("limit", type=float, help="of the winner's multiply-adds")
    parser.add_argument("--networks", type=int, default=200, help="of the table, to be scored")
    options = parser.parse_args()
    table, accuracies = read_table(), json.loads((FOLDER / "best" / "accuracies.json").read_text())
    scores = scores_of(table, options.networks)
    truth, macs, params = (a[-options.networks :] for a in (table.truth, table.macs, table.params))
    rankers = compare_rankings(scores, {"macs": macs, "params": params}, truth, macs)
    print(*describe_rankers(rankers), describe_verdict(rankers), sep="\n")

    beside = table.truth[(table.macs <= options.limit) & (table.macs >= 0.9 * options.limit)]
    mean, error = statistics.mean(accuracies), statistics.stdev(accuracies) / len(accuracies) ** 0.5
    print(
        f"winner {mean:.4f} +- {error:.4f}; mean of {len(beside)} random networks of its cost {beside.mean():.4f} +- "
        f"{beside.std(ddof=1) / len(beside) ** 0.5:.4f}, of which {int((beside > mean).sum())} are better"
    )
    winner = score(json.loads((FOLDER / "best" / "choices.json").read_text()))
    draw(FOLDER / "ranking.png", scores, truth, winner, mean)
    print(f"picture: {FOLDER / 'ranking.png'}")


if __name__ == "__main__":
    main()
