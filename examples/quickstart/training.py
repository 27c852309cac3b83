"""Ordinary training: nothing here knows of choices."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from data import Split
from torch import nn


def train(model: nn.Module, split: Split, epochs: int, seed: int = 0, batch: int = 64) -> Iterator[int]:
    """Train ``model`` in place; yields after each epoch its number."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * -(-len(split) // batch))
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for at in torch.randperm(len(split), generator=generator).split(batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(split.images[at]), split.labels[at]).backward()
            optimizer.step()
            schedule.step()
        yield epoch


@torch.no_grad()
def accuracy(model: nn.Module, split: Split) -> float:
    """Share of ``split`` that ``model`` gets right."""
    training = model.training
    model.eval()
    right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in _batches(split))
    model.train(training)
    return right / len(split)


def _batches(split: Split) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return zip(split.images.split(500), split.labels.split(500), strict=True)
