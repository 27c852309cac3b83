"""Networks to prune, and a training of them that can be stopped anywhere."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mutators.pruning import UnstructuredPruner


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Build, and draw all parameters anew from a generator of our own."""
    model = build()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return model


def reference(seed: int = 0) -> nn.Module:
    """Weights of 432, 512, 1024 and 320: the 2288 of the reference run. (N, 3, H, W) -> (N, 10)."""
    return seeded(
        lambda: nn.Sequential(
            *(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 32, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
        ),
        seed,
    )


class Small(nn.Module):
    """A convolution, a norm, a block of two linear layers, and a weight of the model itself. (N, 1, 5, 5) -> (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 5, 3)
        self.norm = nn.LayerNorm([5, 3, 3])
        self.block = nn.Sequential(nn.Linear(45, 7), nn.ReLU(), nn.Linear(7, 6))
        self.own = nn.Parameter(torch.zeros(6, 3))
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, 1, 5, 5). Returns: (N, 3)."""
        hidden: torch.Tensor = self.block(self.norm(self.conv(x)).relu().flatten(1))
        return hidden @ self.own * self.scale


WEIGHTS = ["own", "conv.weight", "block.0.weight", "block.2.weight"]
"""Of Small: what is pruned, in definition order."""


def small(seed: int = 0) -> nn.Module:
    return seeded(Small, seed)


class Training:
    """Steps of SGD with momentum, the batch of each from its number alone; everything can be saved and loaded."""

    def __init__(self, model: nn.Module, make_pruner: Callable[[nn.Module], UnstructuredPruner]) -> None:
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        self.pruner = make_pruner(model)

    def step(self, number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(4, 1, 5, 5, generator=generator)
        y = torch.randint(3, (4,), generator=generator)
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(x), y).backward()
        self.optimizer.step()
        self.pruner.step()

    def save(self) -> bytes:
        stream = io.BytesIO()
        parts = {"model": self.model, "optimizer": self.optimizer, "pruner": self.pruner}
        torch.save({name: part.state_dict() for name, part in parts.items()}, stream)
        return stream.getvalue()


def read(saved: bytes) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(io.BytesIO(saved), weights_only=True)
    return state


def zeros(model: nn.Module) -> dict[str, torch.Tensor]:
    """Where the parameters are exactly zero."""
    return {name: parameter.detach() == 0 for name, parameter in model.named_parameters()}


def is_pruned(model: nn.Module, pruner: UnstructuredPruner) -> bool:
    """Whether all that the masks say is pruned is +0, bit by bit."""
    parameters = dict(model.named_parameters())
    return all(not parameters[n].detach()[~mask].view(torch.int32).any() for n, mask in pruner.masks.items())


def count(pruner: UnstructuredPruner) -> int:
    """How many weights the masks prune."""
    return sum(int((~mask).sum()) for mask in pruner.masks.values())


def unprune(model: nn.Module) -> None:
    """What an optimizer may do."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)


def half_pruned(model: nn.Module) -> UnstructuredPruner:
    pruner = UnstructuredPruner(model, ratio=0.5)
    pruner.step()
    return pruner
