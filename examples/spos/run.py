"""Single path one-shot from the supernet to the retrained winner, and what both are worth; minutes on two cores."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent.resolve()
BIN = Path(sys.executable).parent


def run(env: dict[str, str], *command: str) -> None:
    """Run one command in this folder, as you would."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    words = [str(BIN / command[0]) if command[0] in ("nas", "python") else command[0], *command[1:]]
    if code := subprocess.run(words, cwd=HERE, env=env, check=False).returncode:
        raise SystemExit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist", help="four MNIST-like idx.gz files")
    parser.add_argument("--limit", type=int, default=16_000, help="images to train with; the table's is the default")
    parser.add_argument("--steps", type=int, default=1071, help="of the supernet's training, seven paths each")
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--smoke", action="store_true", help="as short as can be")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/spos"))
    options = parser.parse_args()
    if options.smoke:
        options.limit, options.steps, options.trials = 1000, 15, 6

    started, folder = time.monotonic(), options.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"DATA": options.data, "LIMIT": options.limit, "STEPS": options.steps, "FOLDER": folder}
    env = {**os.environ, **{f"SPOS_{name}": str(value) for name, value in settings.items()}}
    space, table = str(folder / "space.json"), str(folder / "macs.json")

    run(env, "python", "train.py")
    run(env, "nas", "ss-gen", "-o", space, "--", sys.executable, "net.py")
    run(env, "nas", "cost", "net:build", "--input", "1,14,14", "-o", table)
    limit = middle(json.loads(Path(table).read_text()))
    search = ["--trials", str(options.trials), "--workers", "2", "--cost-table", table]
    run(env, "nas", "search", space, "--evaluate", "net:score", *search, "--constraint", f"macs<={limit}",
        "-o", str(folder / "search"))  # fmt: skip
    best = folder / "best"
    run(env, "nas", "export", str(folder / "search"), "-o", str(best))
    run(env, "python", "retrain.py", str(best))
    run(env, "python", "compare.py", str(limit), *(["--networks", "12"] if options.smoke else []))
    print(f"done in {time.monotonic() - started:.0f} s; the winner is in {best}")


def middle(table: dict) -> int:
    """The limit: a third of the way from the cheapest to the dearest architecture; about half are below it."""
    options = table["options"]["macs"].values()
    low, high = (table["fixed"]["macs"] + sum(end(costs) for costs in options) for end in (min, max))
    return int(low + (high - low) / 3)


if __name__ == "__main__":
    main()
