"""Ways of training a supernet, each a few lines over ``train_supernet``, for the same number of forward passes.

Those that rank better than what is simpler have become arguments of the library; the others stay here, with the
figures of README that say why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import search_spaces
from mutators import LayerChoice, Mutator
from mutators.oneshot import TrainConfig, train_supernet
from mutators.oneshot.paths import fair as fair_paths
from search_spaces import Tokens
from tests.benchmarks.nas_bench_fashion.images import Split
from tests.benchmarks.nas_bench_fashion.make import BATCH, EPOCHS, NET

OPTIONS = 7
Batch = tuple[torch.Tensor, torch.Tensor]
LARGEST, SMALLEST = (6,) * 5, (0,) * 5


class Batches:
    """A loader that cuts batches out of tensors, in an order drawn anew in each epoch; 5 times as fast as torch's."""

    def __init__(self, split: Split, size: int = BATCH) -> None:
        self.split, self.size = split, size

    def __len__(self) -> int:
        return len(self.split) // self.size

    def __iter__(self) -> Iterator[Batch]:
        for at in torch.randperm(len(self.split)).split(self.size)[: len(self)]:
            yield self.split.images[at], self.split.labels[at]


class Endless(Batches):
    """The same without an end: one epoch is as long as the training, so that its schedule is one."""

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield from super().__iter__()


def config_of(passes: int, lr: float, seed: int, paths: int = 1, **options: Any) -> TrainConfig:
    """Return the options that make about so many forward passes, with so many paths a step."""
    return TrainConfig(epochs=1, steps_per_epoch=passes // paths, lr=lr, weight_decay=1e-4, seed=seed, **options)


def uniform(net: nn.Module, train: Split, passes: int, seed: int) -> None:
    """Train one random path a step (Guo et al., 2020)."""
    train_supernet(net, Endless(train), config_of(passes, 0.1, seed))


def fair(net: nn.Module, train: Split, passes: int, seed: int) -> None:
    """Train each option once in each step (FairNAS, Chu et al., 2021)."""
    train_supernet(net, Endless(train), config_of(passes, 0.03, seed, OPTIONS, strategy="fair"))


def fair_slow(net: nn.Module, train: Split, passes: int, seed: int) -> None:
    """The same at a third of the learning rate."""
    train_supernet(net, Endless(train), config_of(passes, 0.01, seed, OPTIONS, strategy="fair"))


def sandwich(net: nn.Module, train: Split, passes: int, seed: int) -> None:
    """Train the largest path, and let it teach the smallest and two random ones (Yu et al., 2020, for widths)."""
    space = search_spaces.space_of(NET)

    def paths(step: int) -> Sequence[Tokens]:
        rng = np.random.default_rng((seed, step))
        return [LARGEST, SMALLEST, space.sample(rng), space.sample(rng)]

    taught: dict[str, Any] = {"calls": 0}

    def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
        outputs = model(batch[0])
        if taught["calls"] % 4 == 0:
            taught["targets"] = F.softmax(outputs.detach(), dim=1)
            loss = F.cross_entropy(outputs, batch[1])
        else:
            loss = F.cross_entropy(outputs, taught["targets"])
        taught["calls"] += 1
        return loss

    train_supernet(net, Endless(train), config_of(passes, 0.04, seed, 4), step=loss_of, paths=paths)


def teacher(net: nn.Module, train: Split, passes: int, seed: int) -> None:
    """Learn from a network trained alone, the largest, with its 4 epochs counted; paths are fair."""
    torch.manual_seed(seed)
    alone = search_spaces.build(NET).to(memory_format=torch.channels_last)
    largest = EPOCHS * (len(train) // BATCH)
    train_supernet(alone, Endless(train), config_of(largest, 0.1, seed), paths=lambda _: [LARGEST], progress=False)
    alone.eval()

    def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            targets = F.softmax(alone(batch[0]), dim=1)
        return F.cross_entropy(model(batch[0]), targets)

    paths = fair_paths(search_spaces.space_of(NET), seed)
    config = config_of(passes - largest, 0.03, seed, OPTIONS)
    train_supernet(net, Endless(train), config, step=loss_of, paths=paths)


class AllPaths(Mutator):
    """Runs all candidates of every choice, and takes their mean."""

    def sample_search(self) -> dict[str, torch.Tensor]:
        return {key: torch.ones(domain.radix, dtype=torch.bool) for key, domain in self.domains.items()}

    sample_final = sample_search


def warm_up(net: nn.Module, train: Split, passes: int, seed: int) -> None:
    """Train all paths together for a tenth of the time, then fairly."""
    tenth = passes // 10 // OPTIONS
    for module in net.modules():
        if isinstance(module, LayerChoice):
            module.reduction = "mean"
    mutator = AllPaths(net)
    train_supernet(net, Endless(train), config_of(tenth, 0.1, seed), mutator=mutator, progress=False)
    mutator.release()
    fair(net, train, passes - passes // 10, seed)


class Average:
    """An exponential moving average of all weights, which takes their place at the end; it stands in a pruner's."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.weights = [p.detach().clone() for p in model.parameters()]

    @torch.no_grad()
    def step(self) -> None:
        torch._foreach_lerp_(self.weights, list(self.model.parameters()), 1 - self.decay)

    @torch.no_grad()
    def take(self) -> None:
        for parameter, weight in zip(self.model.parameters(), self.weights, strict=True):
            parameter.copy_(weight)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights = state["weights"]


def averaged(net: nn.Module, train: Split, passes: int, seed: int) -> None:
    """Train fairly at a constant learning rate, and score by a moving average of the weights."""
    average = Average(net, 0.995)
    config = config_of(passes, 0.03, seed, OPTIONS, strategy="fair", schedule="constant")
    train_supernet(net, Endless(train), config, pruner=average)
    average.take()


METHODS: dict[str, Callable[[nn.Module, Split, int, int], None]] = {
    "uniform": uniform,
    "fair": fair,
    "fair_slow": fair_slow,
    "sandwich": sandwich,
    "teacher": teacher,
    "warm_up": warm_up,
    "averaged": averaged,
}
