"""What a supernet costs: its training step against the same step of the extracted plain network.

Run: python -m tests.benchmarks.supernet_step            (a few minutes)
A step is: draw the path, set it, forward, backward, optimizer. The plain network has the same path's weights, and its
step is forward, backward, optimizer, with a zero_grad. Prints the median ratio over interleaved pairs, for the path
that ``train_supernet`` sets and for a bound mutator, beside plain against a copy of itself, which is the noise.
"""

from __future__ import annotations

import argparse
import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mutators import RandomMutator, extract
from mutators.choices.switch import Switch
from mutators.oneshot import TrainConfig
from mutators.oneshot.optim import make_optimizer
from mutators.oneshot.paths import uniform
from mutators.oneshot.training import Training
from search_spaces import Tokens, build
from tests.benchmarks.pairs import Step, compare

Batch = tuple[torch.Tensor, torch.Tensor]
CONFIG = TrainConfig(epochs=1, lr=1e-4, schedule="constant", steps_per_epoch=10**6)


def plain_step(network: nn.Module, batch: Batch) -> Step:
    """Forward, backward and optimizer as one writes them without this library."""
    optimizer = make_optimizer(network, CONFIG)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(batch[0]), batch[1]).backward()
        optimizer.step()

    return step


def supernet_step(net: nn.Module, batch: Batch, tokens: Tokens, mutator: bool) -> Step:
    """The step of ``train_supernet``: it draws a path, and then, to be comparable, sets ``tokens``."""
    steered = RandomMutator(net) if mutator else None
    draw = uniform(Switch(copy.deepcopy(net)).space) if steered is None else None

    def paths(step: int) -> list[Tokens]:
        assert draw is not None
        draw(step)
        return [tokens]

    if steered is not None:
        masks = {
            key: F.one_hot(torch.tensor(token), domain.radix).bool()  # type: ignore[union-attr]
            for (key, domain), token in zip(steered.domains.items(), tokens, strict=True)
        }
        original = steered.sample_search
        steered.sample_search = lambda: (original(), masks)[1]  # type: ignore[method-assign]
    training = Training(net, [batch], CONFIG, loss_of, paths=paths if steered is None else None, mutator=steered)
    return lambda: training.train_on([batch])


def loss_of(network: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross-entropy of images and classes: ()."""
    return F.cross_entropy(network(batch[0]), batch[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    net = build("shufflenet_v2", num_classes=100)
    space = Switch(net).space
    tokens = space.sample(np.random.default_rng(0))
    plain = extract(net, space.decode(tokens))
    batch = (torch.randn(options.batch, 3, options.size, options.size), torch.randint(100, (options.batch,)))

    other = plain_step(plain, batch)
    rows = [
        ("plain / plain", plain_step(copy.deepcopy(plain), batch)),
        ("path set / plain", supernet_step(copy.deepcopy(net), batch, tokens, mutator=False)),
        ("mutator / plain", supernet_step(copy.deepcopy(net), batch, tokens, mutator=True)),
    ]
    for name, step in rows:
        ratio, milliseconds = compare(step, other, options.pairs)
        print(f"{name:20} median of {options.pairs} pairs {ratio:.4f}   (step of {milliseconds:.0f} ms)", flush=True)


if __name__ == "__main__":
    main()
