"""What gradual pruning costs: a training step with the pruner against the same step without.

Run: python tests/benchmarks/pruning_step.py            (a few minutes)
A step is zero_grad, forward, backward, optimizer, and ``pruner.step()``. Prints the mean over whole periods of the
median ratio of interleaved pairs: of steps that only keep zeros, and of those that compute masks anew, in the share
that they have in a period. Beside it plain against a copy of itself, which is the noise.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mutators import extract
from mutators.oneshot.switch import Switch
from mutators.pruning import GMPUnstructuredPruner
from search_spaces import build

Step = Callable[[], float]
TARGET = 0.75


def training_step(network: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], after: Callable[[], None]) -> Step:
    """Return what takes a step, and then ``after``, and says how many seconds that took."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def step() -> float:
        started = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(network(batch[0]), batch[1]).backward()
        optimizer.step()
        after()
        return time.perf_counter() - started

    return step


def compare(a: Step, b: Step, pairs: int) -> tuple[list[float], list[float]]:
    """Return the ratios a/b of interleaved pairs, in order, and the seconds of b."""
    ratios, steps = [], []
    for pair in range(pairs):
        first, second = (a, b) if pair % 2 else (b, a)
        times = {id(first): first(), id(second): second()}
        ratios.append(times[id(a)] / times[id(b)])
        steps.append(times[id(b)])
    return ratios, steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--period", type=int, default=20, help="iterations between two computations of masks")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    supernet = build("shufflenet_v2", num_classes=100)
    space = Switch(supernet).space
    plain = extract(supernet, space.decode(space.sample(np.random.default_rng(0))))
    batch = (torch.randn(options.batch, 3, options.size, options.size), torch.randint(100, (options.batch,)))
    other = training_step(plain, batch, lambda: None)

    warm = 2 * options.period
    length = options.pairs + warm
    configs = {"pruning_iterations": length, "pruning_steps": length // options.period}
    pruned = copy.deepcopy(plain)
    pruner = GMPUnstructuredPruner(pruned, TARGET, configs=configs)
    due: list[bool] = []

    def prune() -> None:
        before = pruner.ratio
        pruner.step()
        due.append(pruner.ratio != before)

    print(f"{sum(m.numel() for m in pruner.masks.values()):,} weights, masks anew every {options.period} iterations")
    step = training_step(pruned, batch, prune)
    compare(step, other, warm)
    due.clear()
    ratios, seconds = compare(step, other, options.pairs)
    keeping = statistics.median(r for r, new in zip(ratios, due, strict=True) if not new)
    computing = statistics.median(r for r, new in zip(ratios, due, strict=True) if new)
    noise = statistics.median(
        compare(training_step(copy.deepcopy(plain), batch, lambda: None), other, options.pairs)[0]
    )
    share = sum(due) / len(due)
    print(f"plain / plain          median of {options.pairs} pairs {noise:.4f}")
    print(f"zeros kept / plain     median of {due.count(False)} pairs {keeping:.4f}")
    print(f"masks anew / plain     median of {due.count(True)} pairs {computing:.4f}")
    print(
        f"pruner / plain         amortised {(1 - share) * keeping + share * computing:.4f}   "
        f"(mean ratio {statistics.mean(ratios):.4f}, step of {1000 * statistics.median(seconds):.0f} ms, "
        f"sparsity now {pruner.ratio:.3f})"
    )


if __name__ == "__main__":
    main()
