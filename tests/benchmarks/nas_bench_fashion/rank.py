"""How well supernets rank the networks of the table, by the way in which they were trained.

Run: python -m tests.benchmarks.nas_bench_fashion.rank fair --passes 45000 --seeds 3 -o runs/ranks
     python -m tests.benchmarks.nas_bench_fashion.rank -o runs/ranks        (prints again what is there)
Each supernet is trained once, and its scores kept in a file of the folder. Methods are developed on the first 200
networks of the table; ``--networks last`` prints what the other 200 say.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

import search_spaces
from mutators.oneshot import evaluate
from mutators.oneshot.scoring import METRICS
from nas_tuners.commands.ranking import Ranker, compare_rankings
from search_spaces import Tokens
from search_spaces.files import write_atomically
from tests.benchmarks.nas_bench_fashion.images import FOLDER, Batches, Images, read_images
from tests.benchmarks.nas_bench_fashion.make import NET, draw
from tests.benchmarks.nas_bench_fashion.methods import METHODS, Scorer
from tests.benchmarks.nas_bench_fashion.table import read_table

HALF = 200
CALIBRATION = 8  # batches of 250
PARTS = {"first": slice(0, HALF), "last": slice(HALF, 2 * HALF)}


def by_all_metrics(outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the scores of (N, C) outputs by each of the library's metrics."""
    return {name: metric(outputs, targets) for name, metric in METRICS.items()}


def train(method: str, passes: int, seed: int, images: Images) -> Scorer:
    """Train a supernet. Returns: from an architecture to the model to score it by."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    net = search_spaces.build(NET).to(memory_format=torch.channels_last)
    return METHODS[method](net, images.train, passes, seed)


def score(scorer: Scorer, tokens: Tokens, images: Images) -> dict[str, float]:
    """Return the scores of an architecture, on all validation images."""
    net, choices = scorer(tokens)
    valid, calibration = Batches(images.valid, 500), Batches(images.train, 250)
    return evaluate(net, choices, valid, calibration, batches=CALIBRATION, metric=by_all_metrics)


def run(method: str, passes: int, seed: int, part: str, folder: Path, data: str) -> str:
    """Train a supernet, score a half of the table, and keep the scores. Returns: what was done."""
    images = read_images(data)
    started = time.process_time()
    scorer = train(method, passes, seed, images)
    trained = time.process_time()
    scores = [score(scorer, tokens, images) for tokens in draw(2 * HALF)[PARTS[part]]]
    content = {
        "seconds": round(trained - started, 1),
        "scoring": round(time.process_time() - trained, 1),
        **{name: [round(s[name], 6) for s in scores] for name in METRICS},
    }
    path = folder / f"{method}-{passes}-{seed}-{part}.json"
    write_atomically(path, json.dumps(content).encode())
    return f"{path.name} after {time.process_time() - started:.0f} s"


def report(folder: Path, part: str) -> None:
    """Print how well all scores in a folder rank, by log likelihood, beside what costs nothing."""
    table = read_table()
    macs, params, truth = (values[PARTS[part]] for values in (table.macs, table.params, table.truth))
    hurdles = {"macs": macs, "params": params}
    print(f"Kendall's tau with the mean of two trainings, of the {part} {len(truth)} networks of the table")
    print(f"{'':30} {'seconds':>13} {'tau':>6} {'95 % interval':>14} {'lead over macs':>16} {'at equal macs':>13}")
    for path in sorted(folder.glob(f"*-{part}.json")):
        kept = json.loads(path.read_text())
        score, *rivals = compare_rankings(kept["log_likelihood"], hurdles, truth, macs)
        cost = f"{kept['seconds']:.0f} + {kept['scoring']:.0f}"
        lead = f"{rivals[0].lead:.3f} +- {rivals[0].lead_error:.3f}"
        print(f"{path.stem:30} {cost:>13} {_cells(score)}", f"{lead:>16} {score.at_equal_macs.value:13.3f}")
    for ranker in rivals:
        print(f"{ranker.name:30} {'':13} {_cells(ranker)} {'':16} {ranker.at_equal_macs.value:13.3f}")


def _cells(ranker: Ranker) -> str:
    return f"{ranker.tau.value:6.3f} {ranker.tau.low:6.3f} to {ranker.tau.high:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--passes", type=int, default=45_000, help="forward passes of a training, batches of 64")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--networks", choices=PARTS, default="first")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", default=FOLDER, help="four MNIST-like idx.gz files")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ranks"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.workers) as pool:
        part = options.networks
        wanted = [(m, options.passes, s, part) for m in options.methods for s in range(options.seeds)]
        left = [w for w in wanted if not (options.output / f"{'-'.join(map(str, w))}.json").exists()]
        for future in as_completed([pool.submit(run, *w, options.output, options.data) for w in left]):
            print(future.result(), flush=True)
    report(options.output, options.networks)


if __name__ == "__main__":
    main()
