"""Gradual magnitude pruning of a ShuffleNetV2 on Fashion-MNIST, against pruning at once; minutes on two cores."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

from mutators import load_subnet, save_subnet
from mutators.oneshot import recalibrate_bn
from mutators.pruning import GMPUnstructuredPruner, UnstructuredPruner, iterations, sparsity_report

HERE = Path(__file__).parent.resolve()


@dataclass(frozen=True)
class Way:
    """How to spend the second half of the training.

    Attributes:
        name: in the table.
        ratio: of the weights of 1x1 convolutions.
        gradual: prune little by little; else at once, before the training.
        late: prune the trained network of the dense way at once, and recalibrate its batch norms.
    """

    name: str
    ratio: float = 0.0
    gradual: bool = False
    late: bool = False


def ways(ratios: list[float]) -> list[Way]:
    """All of them, dense first."""
    return [
        Way("dense"),
        *(Way(f"gradual {ratio:.0%}", ratio, gradual=True) for ratio in ratios),
        *(Way(f"at once, then trained {ratio:.0%}", ratio) for ratio in ratios),
        *(Way(f"at once, after training {ratio:.0%}", ratio, late=True) for ratio in ratios),
    ]


def fit(network: nn.Module, epochs: int, lr: float, seed: int, pruner: UnstructuredPruner | None = None) -> None:
    """An ordinary training loop. What pruning adds to it: the pruner, its ``step()``, and ``remove()`` at the end."""
    from prune import images

    torch.set_num_threads(1)
    train, batch = images().train, 96
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, weight_decay=4e-5)
    steps = len(train) // batch
    # A cosine to 0; in the first epoch the rate rises, or a trained network could fall apart.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / steps, (1 + math.cos(math.pi * i / (epochs * steps))) / 2)
    )
    network.to(memory_format=torch.channels_last).train()  # a quarter faster on a CPU
    for _ in range(epochs):
        for at in torch.randperm(len(train), generator=generator).split(batch)[:steps]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(train.images[at]), train.labels[at], label_smoothing=0.1).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            if pruner is not None:
                pruner.step()
    if pruner is not None:
        pruner.remove()
    network.eval()


def train_dense(seed: int, folder: Path, epochs: int) -> float:
    """The network that all ways begin with, trained from scratch."""
    from prune import build, choices, plain, score

    torch.manual_seed(seed)
    network = plain()
    fit(network, epochs, 0.1, seed)
    save_subnet(folder / f"start{seed}", network, choices(), factory=build)
    return score(network)


def train_on(way: Way, seed: int, folder: Path, epochs: int) -> dict[str, float]:
    """Go one way. Returns: accuracy, non-zero weights, bytes of the dense and of the sparse file."""
    from prune import build, images, loader, score

    begun = folder / "dense" / f"seed{seed}" / "dense" if way.late else folder / f"start{seed}"
    network = load_subnet(begun, build)
    options = {"prune_params_type": "conv1x1_only", "local_sparsity": True}
    pruner: UnstructuredPruner | None = None
    if way.gradual:
        half = epochs // 2
        phases = iterations(len(images().train) // 96, pruning_epochs=epochs - half, tunning_epochs=half)
        pruner = GMPUnstructuredPruner(network, way.ratio, **options, configs=phases)
    elif way.ratio:
        pruner = UnstructuredPruner(network, ratio=way.ratio, **options)
        pruner.step()
    if way.late:
        recalibrate_bn(network, loader(images().train, shuffle=False))
    else:
        fit(network, epochs, 0.1, 1000 + seed, pruner)

    place, sizes = folder / way.name.replace(" ", "_") / f"seed{seed}", {}
    chosen = json.loads((folder / f"start{seed}" / "arch.json").read_text())["choices"]
    for form in ("dense", "sparse"):
        save_subnet(place / form, network, chosen, factory=build, sparse=form == "sparse")
        sizes[form] = float((place / form / "weights.pt").stat().st_size)
    loaded = load_subnet(place / "sparse", build)
    report = sparsity_report(loaded)
    return {"accuracy": score(loaded), "kept": report.weights - report.zeros, **sizes}


def show(found: dict[tuple[Way, int], dict[str, float]], seeds: list[int]) -> None:
    """The table: means over the seeds, and the loss against dense of the same seed. Then gradual against at once."""
    accuracy = {way: [found[way, seed]["accuracy"] for seed in seeds] for way, _ in found}
    dense = next(right for way, right in accuracy.items() if not way.ratio)
    print(f"\n{'':30} accuracy          loss, points      non-zero    dense file  sparse file")
    for way, right in accuracy.items():
        rows = [found[way, seed] for seed in seeds]
        kept, large, small = (statistics.mean(row[key] for row in rows) for key in ("kept", "dense", "sparse"))
        lost = spread(points(dense, right), 2)
        print(f"{way.name:30} {spread(right, 4)} {lost} {kept:10,.0f} {large:13,.0f} {small:12,.0f}")
    print()
    for way in (way for way in accuracy if way.gradual):
        other = next(o for o in accuracy if o.ratio == way.ratio and not o.gradual and not o.late)
        lead = points(accuracy[way], accuracy[other])
        error = statistics.stdev(lead) / math.sqrt(len(lead)) if len(lead) > 1 else math.nan
        print(
            f"{way.name} against {other.name}: {statistics.mean(lead):+.2f} points on average, standard error "
            f"{error:.2f}, ahead with {sum(p > 0 for p in lead)} of {len(lead)} seeds"
        )


def points(a: list[float], b: list[float]) -> list[float]:
    """By how many percent points each of ``a`` is above its fellow in ``b``."""
    return [100 * (x - y) for x, y in zip(a, b, strict=True)]


def spread(numbers: list[float], digits: int) -> str:
    """Mean and standard deviation."""
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
    return f"{statistics.mean(numbers):.{digits}f} +- {deviation:.{digits}f}".ljust(17)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist", help="four MNIST-like idx.gz files")
    parser.add_argument("--limit", type=int, default=8000, help="images to train and validate with")
    parser.add_argument("--epochs", type=int, default=10, help="of the training in which weights are pruned")
    parser.add_argument("--before", type=int, default=5, help="epochs of the dense training")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.75, 0.85], help="of weights that become zero")
    parser.add_argument("--smoke", action="store_true", help="as short as can be")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/gmp"))
    options = parser.parse_args()
    if len(set(options.ratios)) < len(options.ratios) or not all(0 < ratio < 1 for ratio in options.ratios):
        parser.error(f"--ratios are {options.ratios}, wanted distinct shares between 0 and 1, such as 0.75")
    if options.smoke:
        options.limit, options.before, options.epochs, options.seeds = 800, 2, 2, 1

    started, folder = time.monotonic(), options.output.resolve()
    settings = {"GMP_DATA": options.data, "GMP_LIMIT": options.limit, "GMP_EPOCHS": options.epochs}
    os.environ.update({name: str(value) for name, value in settings.items()})
    seeds = list(range(options.seeds))
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        first = partial(train_dense, folder=folder, epochs=options.before)
        print("accuracy before: " + ", ".join(f"{accuracy:.4f}" for accuracy in pool.map(first, seeds)), flush=True)
        found = {}
        for late in (False, True):
            jobs = [job for job in product(ways(options.ratios), seeds) if job[0].late == late]
            tasks = [pool.submit(train_on, way, seed, folder, options.epochs) for way, seed in jobs]
            for job, task in zip(jobs, tasks, strict=True):
                found[job] = task.result()
                print(f"{job[0].name}, seed {job[1]}: {found[job]['accuracy']:.4f}", flush=True)
    show(found, seeds)

    command = ["nas", "prune", str(folder / "start0"), "-o", str(folder / "by_command"), "--ratio", "0.75", "--local",
               "--skip", "prune:by_layer", "--train", "prune:training", "--evaluate", "prune:score",
               "--model", "prune:build"]  # fmt: skip
    print(f"\n$ {shlex.join(command)}", flush=True)
    subprocess.run([sys.executable, "-m", "nas_tuners.cli", *command[1:]], cwd=HERE, check=True)
    print(f"done in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
