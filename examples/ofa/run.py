"""Once for all on Fashion-MNIST: train, shrink, search at three budgets, export; under ten minutes on two cores."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.resolve()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist", help="four MNIST-like idx.gz files")
    parser.add_argument("--limit", type=int, default=6000, help="images to train and validate with")
    parser.add_argument("--epochs", type=int, default=10, help="of the largest network, before it is shrunk")
    parser.add_argument("--shrink", type=int, default=2, help="epochs of a phase; of the last of the five, times three")
    parser.add_argument("--trials", type=int, default=30, help="sub-networks that a search measures")
    parser.add_argument("--smoke", action="store_true", help="as short as can be")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ofa"))
    options = parser.parse_args()
    if options.smoke:
        options.limit, options.epochs, options.shrink, options.trials = 1000, 1, 1, 4
    os.environ |= {"OFA_DATA": options.data, "OFA_LIMIT": str(options.limit)}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started, folder = time.monotonic(), options.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(HERE))
    import steps

    total = options.epochs + options.shrink * sum(steps.LENGTHS)
    rows, alone = [], []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        largest = pool.submit(steps.largest, folder, total)  # beside the supernet: what it is compared with
        for row in steps.shrunk(folder, options.epochs, options.shrink, options.trials):
            rows.append(row)
            alone.append(pool.submit(steps.alone, row["choices"], total))
        largest.result()
        cut = [steps.cropped(folder, row["choices"]) for row in rows]
        show(rows, cut, [task.result() for task in alone])
    print(f"done in {time.monotonic() - started:.0f} s; the networks are in {folder}")


def show(rows: list[dict[str, Any]], cut: list[float], trained: list[float]) -> None:
    heads = f"{'network':>10} {'limit':>10} {'macs':>10} {'params':>8}"
    print(f"\n{heads}  {'shrunk':>7} {'alone':>7} {'cropped':>8}   test accuracy")
    for row, crop, alone in zip(rows, cut, trained, strict=True):
        costs = f"{row['limit']:>10,} {row['macs']:>10,} {row['params']:>8,}"
        print(f"{row['name']:>10} {costs}  {row['accuracy']:7.4f} {alone:7.4f} {crop:8.4f}")
    loss = [alone - row["accuracy"] for row, alone in zip(rows, trained, strict=True)]
    gain = [row["accuracy"] - crop for row, crop in zip(rows, cut, strict=True)]
    for what, points, end in (
        ("lost against the same networks trained alone", loss, max),
        ("won against cropping", gain, min),
    ):
        print(f"points {what}: {100 * statistics.mean(points):.2f} on average, {end.__name__} {100 * end(points):.2f}")


if __name__ == "__main__":
    main()
