"""Small supernets and data that the tests share, and a training that can be killed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mutators import LayerChoice
from mutators.oneshot import TrainConfig, train_supernet


def supernet(norm: bool = True, dropout: float = 0.0, seed: int = 0) -> nn.Module:
    """(N, 6) -> (N, 3), by two choices of three and one of two; batch norms inside candidates and outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)

        def linear(hidden: int) -> nn.Module:
            layers: list[nn.Module] = [nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 8)]
            return nn.Sequential(*layers, *([nn.BatchNorm1d(8)] if norm else []))

        return nn.Sequential(
            nn.Linear(6, 8),
            *([nn.BatchNorm1d(8)] if norm else []),
            LayerChoice([linear(4), linear(8), nn.Linear(8, 8)], key="a"),
            LayerChoice([linear(4), linear(8), nn.Identity()], key="b"),
            nn.Dropout(dropout),
            LayerChoice([nn.Linear(8, 3), nn.Linear(8, 3, bias=False)], key="c"),
        )


def data(n: int = 48, seed: int = 0) -> TensorDataset:
    """n of inputs (6,) and targets ()."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 6, generator=generator)
    return TensorDataset(x, (x @ torch.randn(6, 3, generator=generator)).argmax(1))


class Noisy(Dataset[Any]):
    """Data augmented from torch's global generator."""

    def __init__(self, n: int = 48) -> None:
        self.inner = data(n)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        x, y = self.inner[index]
        return x + 0.1 * torch.randn(6), y


def tensors(content: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Everything that a checkpoint holds, by place."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from tensors(value, f"{at}.{key}")
    elif isinstance(content, (list, tuple)):
        for index, value in enumerate(content):
            yield from tensors(value, f"{at}.{index}")
    else:
        yield at, content


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit."""
    left, right = dict(tensors(a)), dict(tensors(b))
    return left.keys() == right.keys() and all(
        torch.equal(x, right[at]) if isinstance(x, torch.Tensor) else x == right[at] for at, x in left.items()
    )


def train(checkpoint: Path | None, optimizer: str = "sgd", epochs: int = 4, workers: int = 0, **options: Any) -> Any:
    """Train a supernet with dropout, noise and shuffling from a fixed start. Returns: (model, losses)."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  # a fresh process has states of its own, and they are in the checkpoint
    model = supernet(dropout=0.2)
    loader: DataLoader[Any] = DataLoader(Noisy(), batch_size=8, shuffle=True, num_workers=workers)
    config = TrainConfig(
        epochs=epochs, optimizer=optimizer, checkpoint_every=1, warmup_epochs=1, clip_norm=1, **options
    )
    return model, train_supernet(model, loader, config, checkpoint=checkpoint, progress=False)
