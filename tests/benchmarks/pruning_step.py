"""What gradual pruning costs: a training step with the pruner against the same step without.

Run: python -m tests.benchmarks.pruning_step            (about six minutes)
A step is zero_grad, forward, backward, optimizer, and ``pruner.step()``. Prints the median ratio of interleaved pairs
over whole periods: of steps that only keep zeros, and of those that compute masks anew, and their mean in the share
that they have in a period. Beside it plain against a copy of itself, which is the noise.

Where a network's tensors happen to lie in memory is worth some percent of its speed for as long as it lives. So all
networks are made anew for each period, in random order.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mutators import extract
from mutators.choices.switch import Switch
from mutators.pruning import GMPUnstructuredPruner
from search_spaces import build
from tests.benchmarks.pairs import Step, interleaved, ratios

TARGET = 0.75


def training_step(network: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], after: Callable[[], None]) -> Step:
    """Return what takes a step, and then ``after``."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(batch[0]), batch[1]).backward()
        optimizer.step()
        after()

    return step


def pruning_step(
    network: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], period: int, due: list[bool]
) -> tuple[Step, GMPUnstructuredPruner]:
    """Return the same with a pruner in its third period; it notes in ``due`` whether a step computed masks anew."""
    configs = {"pruning_iterations": 5 * period, "pruning_steps": 5}
    pruner = GMPUnstructuredPruner(network, TARGET, configs=configs)
    for _ in range(2 * period):
        pruner.step()

    def prune() -> None:
        before = pruner.ratio
        pruner.step()
        due.append(pruner.ratio != before)

    return training_step(network, batch, prune), pruner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--periods", type=int, default=10)
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

    mine: list[float] = []
    control: list[float] = []
    seconds: list[float] = []
    due: list[bool] = []
    for _ in range(options.periods):
        copies = [copy.deepcopy(plain) for _ in range(3)]
        first, second, pruned = (copies[i] for i in torch.randperm(3))
        noted: list[bool] = []
        step, pruner = pruning_step(pruned, batch, options.period, noted)
        others = [training_step(network, batch, lambda: None) for network in (first, second)]
        whole, alone, again = interleaved((step, *others), options.period)
        mine += ratios(whole, alone)
        control += ratios(again, alone)
        seconds += alone
        due += noted[-options.period :]
        print(f"{len(mine)} pairs: pruner / plain {statistics.median(mine):.4f}", flush=True)

    keeping = statistics.median(r for r, new in zip(mine, due, strict=True) if not new)
    computing = statistics.median(r for r, new in zip(mine, due, strict=True) if new)
    share = sum(due) / len(due)
    print(f"{sum(m.numel() for m in pruner.masks.values()):,} weights, masks anew every {options.period} iterations")
    print(f"plain / plain          median of {len(control)} pairs {statistics.median(control):.4f}")
    print(f"zeros kept / plain     median of {due.count(False)} pairs {keeping:.4f}")
    print(f"masks anew / plain     median of {due.count(True)} pairs {computing:.4f}")
    print(
        f"pruner / plain         amortised {(1 - share) * keeping + share * computing:.4f}   "
        f"(mean ratio {statistics.mean(mine):.4f}, step of {1000 * statistics.median(seconds):.0f} ms)"
    )


if __name__ == "__main__":
    main()
