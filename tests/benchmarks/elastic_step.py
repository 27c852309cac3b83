"""What an elastic network costs: its training step against the same step of the extracted sub-network.

Run: python -m tests.benchmarks.elastic_step            (about ten minutes; --configs 2 --pairs 20 for a look)
MobileNetV3 with elastic kernels, widths and depths. A step is: draw the sub-network, set it, forward, backward,
optimizer; see supernet_step.py. Prints the median ratio over interleaved pairs for each of several random
sub-networks, then over all pairs, beside plain against a copy of itself, which is the noise. Wanted: at most 1.03, in
steps of 50 ms or more; MIT's own takes 1.04 to 1.05.
"""

from __future__ import annotations

import argparse
import copy
import statistics

import numpy as np
import torch

from mutators import extract
from mutators.oneshot.switch import Switch
from search_spaces import build
from tests.benchmarks.supernet_step import compare, plain_step, supernet_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="ofa_mobilenet_v3")
    parser.add_argument("--configs", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=25, help="of each sub-network")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    net = build(options.net, num_classes=10)
    space = Switch(net).space
    batch = (torch.randn(options.batch, 3, options.size, options.size), torch.randint(10, (options.batch,)))
    elastic, noise = [], []
    for i, tokens in enumerate(space.sample_tokens(np.random.default_rng(0), options.configs).tolist()):
        plain = extract(net, space.decode(tuple(tokens)))
        other = plain_step(plain, batch)
        steps = supernet_step(copy.deepcopy(net), batch, tuple(tokens), mutator=False)
        ratio, milliseconds = compare(steps, other, options.pairs)
        control, _ = compare(plain_step(copy.deepcopy(plain), batch), other, options.pairs)
        elastic.append(ratio)
        noise.append(control)
        what = f"{ratio:.4f}   plain / plain {control:.4f}   (step of {milliseconds:.0f} ms)"
        print(f"sub-network {i}: elastic / plain {what}", flush=True)
    pairs = f"{options.configs} x {options.pairs} pairs"
    print(f"median of {pairs}: elastic / plain {statistics.median(elastic):.4f}", end="   ")
    print(f"plain / plain {statistics.median(noise):.4f}")


if __name__ == "__main__":
    main()
