"""What an elastic network costs: its training step against the same step of the extracted sub-network.

Run: python -m tests.benchmarks.elastic_step            (about ten minutes; --configs 8 for a look)
MobileNetV3 with elastic kernels, widths and depths, by default with the batch that MIT's own was measured with. A step
is: draw the sub-network, set it, forward, backward, optimizer; see supernet_step.py. Prints the median ratio of
interleaved pairs for each of several random sub-networks and over all pairs, beside plain against a copy of itself,
which is the noise. Wanted: at most 1.03, in steps of 50 ms or more; MIT's takes 1.04 to 1.05.

Where a network's tensors happen to lie in memory is worth some percent of its speed for as long as it lives. So all
networks are made anew every few pairs, in random order; the median of 200 pairs still differs by half a percent from
run to run.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from mutators import extract
from mutators.oneshot.switch import Switch
from search_spaces import Tokens, build
from tests.benchmarks.pairs import Step, interleaved, ratios
from tests.benchmarks.supernet_step import plain_step, supernet_step

PAIRS_A_COPY = 5


def steps(net: nn.Module, plain: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], tokens: Tokens) -> list[Step]:
    """Of new copies: the plain network, the same again, and the elastic one, made in random order."""
    makers: list[Callable[[], Step]] = [
        lambda: plain_step(copy.deepcopy(plain), batch),
        lambda: plain_step(copy.deepcopy(plain), batch),
        lambda: supernet_step(copy.deepcopy(net), batch, tokens, mutator=False),
    ]
    made = {int(i): makers[i]() for i in torch.randperm(len(makers))}
    return [made[i] for i in range(len(makers))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="ofa_mobilenet_v3")
    parser.add_argument("--configs", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=5, help="of each sub-network")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    net = build(options.net, num_classes=10)
    space = Switch(net).space
    batch = (torch.randn(options.batch, 3, options.size, options.size), torch.randint(10, (options.batch,)))
    elastic: list[float] = []
    noise: list[float] = []
    for i, tokens in enumerate(space.sample_tokens(np.random.default_rng(0), options.configs).tolist()):
        plain = extract(net, space.decode(tuple(tokens)))
        times: list[list[float]] = [[], [], []]
        for done in range(0, options.pairs, PAIRS_A_COPY):
            made = steps(net, plain, batch, tuple(tokens))
            for old, new in zip(times, interleaved(made, min(PAIRS_A_COPY, options.pairs - done)), strict=True):
                old.extend(new)
        first, second, whole = times
        mine, control = ratios(whole, first), ratios(second, first)
        what = f"{statistics.median(mine):.4f}   plain / plain {statistics.median(control):.4f}"
        print(
            f"sub-network {i}: elastic / plain {what}   (step of {1000 * statistics.median(first):.0f} ms)", flush=True
        )
        elastic += mine
        noise += control
    print(f"median of all {len(elastic)} pairs: elastic / plain {statistics.median(elastic):.4f}", end="   ")
    print(f"plain / plain {statistics.median(noise):.4f}")


if __name__ == "__main__":
    main()
