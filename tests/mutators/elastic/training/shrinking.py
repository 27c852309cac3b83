"""A small elastic network, its data, and a training of it that other processes run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from mutators.choices.value_choice import ValueChoice
from mutators.elastic import OFA, DistillConfig, RunConfig, train
from mutators.elastic.layers import ElasticBatchNorm2d, ElasticConv2d, ElasticDepth, ElasticLinear, Width
from mutators.oneshot import TrainConfig

N_EPOCHS = [[0], [1, 2], [3, 4]]
"""One phase of kernels, two of widths, two of depths; an epoch each."""


class Block(nn.Module):
    """A residual block with an elastic middle and kernel."""

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        self.expand_ratio = ValueChoice((1, 2, 3))
        middle = Width.of(self.expand_ratio, (channels, 2 * channels, 3 * channels))
        self.up = ElasticConv2d(Width(channels), middle, 1)
        self.depthwise = ElasticConv2d(middle, 3 * channels, (1, 3, 5), groups=3 * channels)
        self.norm = ElasticBatchNorm2d(middle) if norm else nn.Identity()
        self.down = ElasticConv2d(middle, Width(channels), 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape."""
        y: torch.Tensor = self.down(torch.relu(self.norm(self.depthwise(self.up(x)))))
        return x + y


class Net(nn.Module):
    """A stem, a stage of one to three blocks, a head."""

    def __init__(self, norm: bool = True, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = nn.Conv2d(1, 4, 3, padding=1)
            self.stage = ElasticDepth([Block(4, norm) for _ in range(3)], (1, 2, 3))
            self.head = ElasticLinear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, H, W) to (N, 3) logits."""
        logits: torch.Tensor = self.head(self.stage(torch.relu(self.stem(x))).mean((2, 3)))
        return logits


def batches(n: int = 6, size: int = 8) -> list[Any]:
    """Images of which the brightest third says the class."""
    generator = torch.Generator().manual_seed(7)
    found = []
    for _ in range(n):
        y = torch.randint(3, (size,), generator=generator)
        x = 0.3 * torch.randn(size, 1, 6, 6, generator=generator)
        for image, label in zip(x, y.tolist(), strict=True):
            image[:, 2 * label : 2 * label + 2] += 1
        found.append((x, y))
    return found


def ofa(norm: bool = True, seed: int = 0, **options: Any) -> OFA:
    """The network with its schedule and a teacher."""
    run_config = RunConfig(n_epochs=N_EPOCHS, **{"dynamic_batch_size": (1, 2, 2), **options})  # type: ignore[arg-type]
    distill = DistillConfig(mapping_layers=["stage.0.down"], lambda_distill=0.1, lambda_logits=0.5, mapping_op="conv")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return OFA(Net(norm, seed), run_config, distill)


def train_in_steps(folder: Path) -> None:
    """Train with a checkpoint after every step."""
    torch.set_num_threads(1)
    config = TrainConfig(epochs=1, lr=0.05, checkpoint_every=1)
    train(ofa(), batches(12), config, checkpoint=folder, progress=False)
