"""Make the table: train networks drawn at random, each from two seeds, with nothing of this project but the net.

Run: python -m tests.benchmarks.nas_bench_fashion.make -o table.csv      (about 50 minutes on two cores)
Stopped at any moment and started again, it goes on: each training is one line of the file.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import search_spaces
from mutators import extract
from mutators.costs import count_macs, count_params
from search_spaces import Tokens
from search_spaces.files import write_atomically
from search_spaces.progress import Progress
from tests.benchmarks.nas_bench_fashion.images import FOLDER, Images, Split, read_images
from tests.benchmarks.nas_bench_fashion.table import COLUMNS, EPOCHS

NET = "nas_bench_fashion"
BATCH, LR = 64, 0.1
Row = dict[str, str]


def draw(networks: int) -> list[Tokens]:
    """Return different architectures, the same at every call; more of them begin with the same."""
    space = search_spaces.space_of(NET)
    drawn = space.sample_tokens(np.random.default_rng(0), 2 * networks)
    return list(dict.fromkeys(tuple(tokens) for tokens in drawn.tolist()))[:networks]


def train_alone(tokens: Tokens, seed: int, images: Images, epochs: int = EPOCHS) -> tuple[nn.Module, Row]:
    """Return the plain network of an architecture, trained from scratch, and its line of the table.

    Stochastic gradient descent with Nesterov's momentum 0.9, weight decay 1e-4, batches of 64, a learning rate that
    falls from 0.1 to 0 as a cosine.
    """
    torch.manual_seed(seed)
    supernet = search_spaces.build(NET)
    network = extract(supernet, search_spaces.space_of(NET).decode(tokens)).to(memory_format=torch.channels_last)
    row = {
        "tokens": " ".join(map(str, tokens)),
        "seed": str(seed),
        "macs": str(count_macs(network, images.train.images[:1])),
        "params": str(count_params(network)),
    }
    optimizer = torch.optim.SGD(network.parameters(), LR, momentum=0.9, weight_decay=1e-4, nesterov=True)
    steps = len(images.train) // BATCH
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    seconds = 0.0
    for epoch in range(1, epochs + 1):
        started = time.process_time()
        for at in torch.randperm(len(images.train)).split(BATCH)[:steps]:
            optimizer.zero_grad()
            F.cross_entropy(network(images.train.images[at]), images.train.labels[at]).backward()
            optimizer.step()
            schedule.step()
        seconds += time.process_time() - started
        row |= {f"{name}_{epoch}": f"{_accuracy(network, getattr(images, name)):.4f}" for name in ("valid", "test")}
    return network, row | {"seconds": f"{seconds:.2f}"}


@torch.no_grad()
def _accuracy(network: nn.Module, split: Split) -> float:
    network.eval()
    right = sum(
        int((network(images).argmax(1) == labels).sum())
        for images, labels in zip(split.images.split(500), split.labels.split(500), strict=True)
    )
    network.train()
    return right / len(split)


@cache
def _images(folder: str) -> Images:
    return read_images(folder)


def _row(tokens: Tokens, seed: int, folder: str) -> Row:
    torch.set_num_threads(1)
    return train_alone(tokens, seed, _images(folder))[1]


def _read(path: Path) -> list[Row]:
    """Return the rows of a file that are whole: what was written when it was stopped is not."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))


def _text(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("table.csv"))
    parser.add_argument("--data", default=FOLDER, help="four MNIST-like idx.gz files")
    parser.add_argument("--networks", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()

    rows = _read(options.output)
    write_atomically(options.output, _text(rows).encode())
    done = {(row["tokens"], int(row["seed"])) for row in rows}
    wanted = [(tokens, seed) for tokens in draw(options.networks) for seed in range(options.seeds)]
    order = {(" ".join(map(str, tokens)), seed): i for i, (tokens, seed) in enumerate(wanted)}
    left = [key for key, known in zip(wanted, order, strict=True) if known not in done]
    with (
        ProcessPoolExecutor(options.workers) as pool,
        Progress(len(wanted), "trainings", done=len(wanted) - len(left)) as progress,
        options.output.open("a", newline="") as file,
    ):
        for future in as_completed([pool.submit(_row, tokens, seed, options.data) for tokens, seed in left]):
            rows.append(future.result())
            file.write(_text(rows[-1:]).split("\n", 1)[1])
            file.flush()
            os.fsync(file.fileno())
            progress.step()
    rows.sort(key=lambda row: order[row["tokens"], int(row["seed"])])
    write_atomically(options.output, _text(rows).encode())
    print(f"{len(rows)} trainings in {options.output}")


if __name__ == "__main__":
    main()
