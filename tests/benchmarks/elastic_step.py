"""What an elastic network costs: its training step against the same step of the extracted sub-network.

Run: python -m tests.benchmarks.elastic_step            (a quarter of an hour; --configs 10 for a look)
MobileNetV3 with elastic kernels, widths and depths, by default with the batch that MIT's own was measured with. A step
is that of ``train_supernet``: draw a sub-network, set it, forward, backward, optimizer. Before each round the supernet
trains another sub-network, as it would. Prints the median ratio of interleaved pairs for each of many random
sub-networks and over all, against two copies of the plain network; beside them one copy against the other, which is the
noise. Wanted: at most 1.03, in steps of 50 ms or more; MIT's takes 1.04 to 1.05. With ``--against-autograd`` the plain
network gives way to the elastic one without :mod:`mutators.elastic.layers.parts`: ratios below 1 are what these save.
With ``--cpu-time`` other processes on the machine disturb less.

Where a network's tensors happen to lie in memory is worth some percent of its speed for as long as it lives. So all
networks are made anew for each sub-network, in random order.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from mutators import extract
from mutators.choices.switch import Switch
from mutators.oneshot.paths import uniform
from mutators.oneshot.training import Training
from search_spaces import Tokens, build
from tests.benchmarks.pairs import Clock, Step, interleaved, ratios
from tests.benchmarks.supernet_step import CONFIG, Batch, loss_of, plain_step


def elastic_steps(net: nn.Module, batch: Batch, subnets: Sequence[Tokens], by_parts: bool = True) -> list[Step]:
    """A training's step for each of several sub-networks; the uniform draw of a sub-network is part of it."""
    draw, wanted = uniform(Switch(copy.deepcopy(net)).space), [subnets[0]]

    def paths(step: int) -> list[Tokens]:
        draw(step)
        return wanted

    training = Training(net, [batch], CONFIG, loss_of, paths=paths, by_parts=by_parts)

    def step_of(tokens: Tokens) -> Step:
        def step() -> None:
            wanted[:] = [tokens]
            training.train_on([batch])

        return step

    return [step_of(tokens) for tokens in subnets]


def time_copies(
    net: nn.Module, plain: nn.Module | None, batch: Batch, subnets: Sequence[Tokens], rounds: int, clock: Clock
) -> list[list[float]]:
    """Return the seconds of new copies, made in random order: the plain network, the same again, the elastic one.

    Args:
        net: the elastic network.
        plain: to compare it with; None: the elastic network without parts.
        batch: of each step.
        subnets: the first is timed; the second runs before each round.
        rounds: how often each step is timed.
        clock: returns seconds.
    """

    def make_other() -> list[Step]:
        if plain is None:
            return elastic_steps(copy.deepcopy(net), batch, subnets, by_parts=False)
        return [plain_step(copy.deepcopy(plain), batch)]

    makers = (make_other, make_other, lambda: elastic_steps(copy.deepcopy(net), batch, subnets))
    made = {int(i): makers[i]() for i in torch.randperm(len(makers))}
    others = [step for steps in made.values() for step in steps[1:]]
    return interleaved([made[i][0] for i in range(len(makers))], rounds, lambda: [step() for step in others], clock)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="ofa_mobilenet_v3")
    parser.add_argument("--configs", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=2, help="of each sub-network, with both plain ones")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--against-autograd", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    net = build(options.net, num_classes=10)
    space = Switch(net).space
    batch = (torch.randn(options.batch, 3, options.size, options.size), torch.randint(10, (options.batch,)))
    names = ("parts / autograd", "autograd twice") if options.against_autograd else ("elastic / plain", "plain / plain")
    clock = time.process_time if options.cpu_time else time.perf_counter
    elastic: list[float] = []
    noise: list[float] = []
    subnets = [tuple(tokens) for tokens in space.sample_tokens(np.random.default_rng(0), options.configs + 1).tolist()]
    for i, pair in enumerate(itertools.pairwise(subnets)):
        plain = None if options.against_autograd else extract(net, space.decode(pair[0]))
        first, second, whole = time_copies(net, plain, batch, pair, options.pairs, clock)
        mine, control = ratios(whole, first) + ratios(whole, second), ratios(second, first)
        what = f"{names[0]} {statistics.median(mine):.4f}   {names[1]} {statistics.median(control):.4f}"
        print(f"sub-network {i}: {what}   (step of {1000 * statistics.median(first):.0f} ms)", flush=True)
        elastic += mine
        noise += control
    print(f"median of all {len(elastic)} pairs: {names[0]} {statistics.median(elastic):.4f}", end="   ")
    print(f"{names[1]} {statistics.median(noise):.4f}")


if __name__ == "__main__":
    main()
