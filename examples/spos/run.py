"""Single path one-shot in its three steps, and an honest comparison; under ten minutes on two cores."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent.resolve()
BIN = Path(sys.executable).parent


def run(env: dict[str, str], *command: str) -> str:
    """Run one command in this folder, as you would. Returns: what it printed."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    words = [str(BIN / command[0]) if command[0] in ("nas", "python") else command[0], *command[1:]]
    done = subprocess.run(words, cwd=HERE, env=env, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist", help="four MNIST-like idx.gz files")
    parser.add_argument("--limit", type=int, default=8000, help="images to train and validate with")
    parser.add_argument("--epochs", type=int, default=5, help="of each retraining; the supernet gets twice as many")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--random", type=int, default=10, help="random networks to compare with")
    parser.add_argument("--smoke", action="store_true", help="as short as can be")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/spos"))
    options = parser.parse_args()
    if options.smoke:
        options.limit, options.epochs, options.trials, options.random = 1500, 1, 6, 3

    started, folder = time.monotonic(), options.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"DATA": options.data, "LIMIT": options.limit, "EPOCHS": options.epochs, "FOLDER": folder}
    env = {**os.environ, **{f"SPOS_{name}": str(value) for name, value in settings.items()}}
    space, table = str(folder / "space.json"), str(folder / "macs.json")

    run(env, "python", "train.py")
    run(env, "nas", "ss-gen", "-o", space, "--", sys.executable, "net.py")
    run(env, "nas", "cost", "net:build", "--input", "1,28,28", "-o", table)
    limit = middle(json.loads(Path(table).read_text()))
    search = ["--trials", str(options.trials), "--workers", "2", "--cost-table", table]
    run(env, "nas", "search", space, "--evaluate", "net:score", *search, "--constraint", f"macs<={limit}",
        "-o", str(folder / "search"))  # fmt: skip
    best = folder / "best"
    run(env, "nas", "export", str(folder / "search"), "-o", str(best))
    winner = run(env, "python", "retrain.py", str(best))
    low = int(0.95 * limit)
    run(env, "nas", "rank", space, "--score", "net:score", "--retrain", "net:retrain", "-n", str(options.random),
        "--cost-table", table, "--constraint", f"{low}<=macs<={limit}", "--workers", "2",
        "-o", str(folder / "rank"))  # fmt: skip
    compare(float(re.findall(r"test images: ([\d.]+)", winner)[0]), folder / "rank" / "journal.jsonl")
    print(f"done in {time.monotonic() - started:.0f} s; the winner is in {best}")


def middle(table: dict) -> int:
    """The limit: half-way between the cheapest and the dearest architecture."""
    options = table["options"]["macs"].values()
    return int(table["fixed"]["macs"] + sum(min(costs) + max(costs) for costs in options) / 2)


def compare(winner: float, journal: Path) -> None:
    """The winner against the mean of random architectures of the same cost, all trained alike."""
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    others = [event["metrics"]["default"] for event in events if event["event"] == "tell"]
    mean, spread = statistics.mean(others), statistics.stdev(others)
    print(f"winner {winner:.4f}; mean of {len(others)} random architectures of its cost {mean:.4f} +- {spread:.4f}")


if __name__ == "__main__":
    main()
