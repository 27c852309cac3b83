"""Ways of training a supernet and of scoring by it, each a few lines over the library; all for as many forward passes.

What ranks better than what is simpler is an argument of the library; the rest stays here, with the figures of README.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import search_spaces
from mutators import LayerChoice, Mutator, extract
from mutators.oneshot import TrainConfig, train_supernet
from mutators.oneshot.paths import fair as fair_paths
from search_spaces import Choices, Tokens
from tests.benchmarks.nas_bench_fashion.images import Batches, Split
from tests.benchmarks.nas_bench_fashion.make import BATCH, EPOCHS, NET

OPTIONS = 7
LARGEST, SMALLEST = (6,) * 5, (0,) * 5
SPACE = search_spaces.space_of(NET)
RANKED = 200
"""Networks among which the passes of a hurdle are divided: as many as are ranked."""

Batch = tuple[torch.Tensor, torch.Tensor]
Scorer = Callable[[Tokens], tuple[nn.Module, Choices]]
"""From an architecture to the model to score it by, and the choices to apply to that."""


class Endless(Batches):
    """A loader without an end: one epoch is as long as the training, whatever the paths a step."""

    def __init__(self, split: Split) -> None:
        super().__init__(split, BATCH)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield from super().__iter__()


def config_of(passes: int, lr: float, seed: int, paths: int = 1, **options: Any) -> TrainConfig:
    """Return the options that make about so many forward passes, with so many paths a step."""
    return TrainConfig(epochs=1, steps_per_epoch=passes // paths, lr=lr, weight_decay=1e-4, seed=seed, **options)


def shared(net: nn.Module) -> Scorer:
    """Return the scorer that takes a supernet's weights as they are."""
    return lambda tokens: (net, SPACE.decode(tokens))


def untrained(net: nn.Module, train: Split, passes: int, seed: int) -> Scorer:
    """Do not train at all: a hurdle."""
    return shared(net)


def short(net: nn.Module, train: Split, passes: int, seed: int) -> Scorer:
    """Train each network alone from scratch, with its share of the passes: a hurdle."""
    config = config_of(passes // RANKED, 0.1, seed)

    def train_alone(tokens: Tokens) -> tuple[nn.Module, Choices]:
        network = extract(net, SPACE.decode(tokens))
        train_supernet(network, Endless(train), config, progress=False)
        return network, {}

    return train_alone


def uniform(net: nn.Module, train: Split, passes: int, seed: int) -> Scorer:
    """Train one random path a step (Guo et al., ECCV 2020)."""
    train_supernet(net, Endless(train), config_of(passes, 0.1, seed))
    return shared(net)


def fair(net: nn.Module, train: Split, passes: int, seed: int, lr: float = 0.03) -> Scorer:
    """Train each option once in each step (FairNAS, Chu et al., ICCV 2021)."""
    train_supernet(net, Endless(train), config_of(passes, lr, seed, OPTIONS, strategy="fair"))
    return shared(net)


def sandwich(net: nn.Module, train: Split, passes: int, seed: int) -> Scorer:
    """Train the largest path, and let it teach the smallest and two random ones (Yu and Huang, ICCV 2019)."""
    calls, targets = 0, torch.empty(0)

    def paths(step: int) -> Sequence[Tokens]:
        rng = np.random.default_rng((seed, step))
        return [LARGEST, SMALLEST, SPACE.sample(rng), SPACE.sample(rng)]

    def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
        nonlocal calls, targets
        outputs, first = model(batch[0]), calls % 4 == 0
        calls += 1
        loss = F.cross_entropy(outputs, batch[1] if first else targets)
        targets = F.softmax(outputs.detach(), dim=1) if first else targets
        return loss

    train_supernet(net, Endless(train), config_of(passes, 0.05, seed, 4), step=loss_of, paths=paths)
    return shared(net)


def taught(net: nn.Module, train: Split, passes: int, seed: int) -> Scorer:
    """Train fairly, with the outputs of the largest network, trained alone before, in the place of the classes."""
    teacher, largest = extract(net, SPACE.decode(LARGEST)), EPOCHS * (len(train) // BATCH)
    train_supernet(teacher, Endless(train), config_of(largest, 0.1, seed), progress=False)
    teacher.eval()

    def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            targets = F.softmax(teacher(batch[0]), dim=1)
        return F.cross_entropy(model(batch[0]), targets)

    config = config_of(passes - largest, 0.03, seed, OPTIONS)
    train_supernet(net, Endless(train), config, step=loss_of, paths=fair_paths(SPACE, seed))
    return shared(net)


class AllPaths(Mutator):
    """Runs all candidates of every choice, and takes their mean."""

    def sample_search(self) -> dict[str, torch.Tensor]:
        return {key: torch.ones(len(domain.names), dtype=torch.bool) for key, domain in self.domains.items()}

    sample_final = sample_search


def warmed_up(net: nn.Module, train: Split, passes: int, seed: int) -> Scorer:
    """Train all paths together for a tenth of the passes, then fairly."""
    for module in net.modules():
        if isinstance(module, LayerChoice):
            module.reduction = "mean"
    mutator = AllPaths(net)
    train_supernet(net, Endless(train), config_of(passes // 10, 0.1, seed, OPTIONS), mutator=mutator)
    mutator.release()
    return fair(net, train, passes - passes // 10, seed)


class Average:
    """A moving average of all weights, kept beside a training as its pruner."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.weights = [p.detach().clone() for p in model.parameters()]

    @torch.no_grad()
    def step(self) -> None:
        torch._foreach_lerp_(self.weights, list(self.model.parameters()), 1 - self.decay)

    @torch.no_grad()
    def apply(self) -> None:
        for parameter, weight in zip(self.model.parameters(), self.weights, strict=True):
            parameter.copy_(weight)

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights = state["weights"]


def averaged(net: nn.Module, train: Split, passes: int, seed: int) -> Scorer:
    """Train fairly at a constant learning rate, and score by a moving average of the weights."""
    average = Average(net, 0.995)
    config = config_of(passes, 0.03, seed, OPTIONS, strategy="fair", schedule="constant")
    train_supernet(net, Endless(train), config, pruner=average)
    average.apply()
    return shared(net)


def split(net: nn.Module, train: Split, passes: int, seed: int, keys: int = 1) -> Scorer:
    """Train fairly for half of the passes, then a copy for each option of the first keys (Zhao et al., ICML 2021)."""
    fair(net, train, passes // 2, seed)
    fixed = [tokens for tokens in np.ndindex(*(OPTIONS,) * keys)]
    config = config_of(passes // 2 // len(fixed), 0.03, seed, OPTIONS)
    copies = {}
    draw = fair_paths(SPACE, seed)
    for begin in fixed:
        copies[begin] = copy.deepcopy(net)

        def paths(step: int, begin: Tokens = begin) -> Sequence[Tokens]:
            return [(*begin, *tokens[keys:]) for tokens in draw(step)]

        train_supernet(copies[begin], Endless(train), config, paths=paths, progress=False)
    return lambda tokens: (copies[tokens[:keys]], SPACE.decode(tokens))


def adapted(net: nn.Module, train: Split, passes: int, seed: int, share: float = 0.5) -> Scorer:
    """Train fairly for a share of the passes, then each network that is scored alone, from the supernet's weights."""
    fair(net, train, int(share * passes), seed)
    config = config_of(int((1 - share) * passes) // RANKED, 0.1, seed)

    def adapt(tokens: Tokens) -> tuple[nn.Module, Choices]:
        network = extract(net, SPACE.decode(tokens))
        train_supernet(network, Endless(train), config, progress=False)
        return network, {}

    return adapt


class Paired(nn.Module):
    """Seven supernets, of which each layer runs that of the number of the choice before it.

    So a weight is shared by all that comes before and after its neighbour, but not by all neighbours: what follows a
    bottleneck need not serve what follows a wide convolution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(search_spaces.build(NET) for _ in range(OPTIONS))
        for net in self.nets:
            for name, layer in net.named_children():
                if isinstance(layer, LayerChoice):
                    setattr(net, name, LayerChoice({n: layer.candidate(n) for n in layer.names}, key=name))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, H, W) to (N, 10) logits."""
        before = 0
        for name, layer in self.nets[0].named_children():
            x = self.nets[before].get_submodule(name)(x)
            if isinstance(layer, LayerChoice) and layer.applied_indices is not None:
                (before,) = layer.applied_indices
        return x


def paired(net: nn.Module, train: Split, passes: int, seed: int) -> Scorer:
    """Train fairly, with weights of their own after each option of the choice before."""
    return fair(Paired().to(memory_format=torch.channels_last), train, passes, seed)


METHODS: dict[str, Callable[[nn.Module, Split, int, int], Scorer]] = {
    "untrained": untrained,
    "short": short,
    "uniform": uniform,
    "fair": fair,
    "fair_fast": partial(fair, lr=0.06),
    "fair_slow": partial(fair, lr=0.015),
    "sandwich": sandwich,
    "taught": taught,
    "warmed_up": warmed_up,
    "averaged": averaged,
    "split": split,
    "adapted": adapted,
    "adapted_early": partial(adapted, share=0.2),
    "paired": paired,
}
