"""A supernet of convolutions and an elastic network, their data, and trainings of them that other processes run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mutators import LayerChoice
from mutators.elastic import train
from mutators.elastic.layers import ElasticConv2d, ElasticDepth, ElasticLinear
from mutators.oneshot import TrainConfig, train_supernet
from tests.gpu.device import device_of
from tests.mutators.elastic.training import shrinking


def supernet(norm: bool = True, dropout: float = 0.0, seed: int = 0) -> nn.Module:
    """(N, 1, 6, 6) -> (N, 3), by two choices of three."""

    def conv(kernel: int) -> nn.Module:
        layer = nn.Conv2d(8, 8, kernel, padding=kernel // 2, bias=not norm)
        return nn.Sequential(layer, *([nn.BatchNorm2d(8)] if norm else []), nn.ReLU())

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        choices = [LayerChoice([conv(3), conv(5), nn.Identity()]) for _ in range(2)]
        head = (nn.AvgPool2d((2, 6)), nn.Flatten(), nn.Dropout(dropout), nn.Linear(24, 3))
        return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), *choices, *head)


class Elastic(nn.Module):
    """Elastic kernels, widths and depth; the blocks' activations may be computed again in the backward."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.again = again
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = ElasticConv2d(1, (2, 4, 6), (3, 5), padding=2)
            self.blocks = ElasticDepth([ElasticConv2d(6, 6, (1, 3, 5), groups=6, padding=2), nn.ReLU()], (1, 2))
            self.last = ElasticConv2d(6, 8, 1)
            self.head = ElasticLinear(8 * 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, 6, 6) to (N, 3)."""
        x = torch.relu(self.stem(x))
        x = checkpoint(self._middle, x, use_reentrant=False) if self.again else self._middle(x)
        logits: torch.Tensor = self.head(nn.functional.avg_pool2d(x, (2, 6)).flatten(1))
        return logits

    def _middle(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.blocks(x))
        return y


def fit(model: nn.Module, device: torch.device, loader: Any = None, **options: Any) -> list[float]:
    """Train on a device; options of the config and of train_supernet together."""
    rest = {name: options.pop(name) for name in ("parts", "checkpoint") if name in options}
    config = TrainConfig(**{"epochs": 3, "lr": 0.05, **options})
    return train_supernet(model.to(device), loader or shrinking.batches(), config, progress=False, **rest)


def train_long(path: Path, device: torch.device, amp: str | None) -> None:
    """Train with dropout, which draws on the device, and with a checkpoint after every step."""
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    torch.manual_seed(0)
    fit(supernet(dropout=0.2), device, epochs=40, amp=amp, checkpoint=path, checkpoint_every=1, accumulate=2)


def work(rank: int, folder: Path, port: int, sync: bool) -> None:
    """Be one of two processes that train on halves of batches: a supernet, and an elastic network."""
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    device = device_of(rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    halves = [(x.chunk(2)[rank], y.chunk(2)[rank]) for x, y in shrinking.batches()]
    model = supernet(norm=sync, seed=rank)  # the first one's weights count
    fit(nn.SyncBatchNorm.convert_sync_batchnorm(model) if sync else model, device, halves)
    torch.save(model.cpu().state_dict(), folder / f"{rank}.pt")
    if not sync:
        ofa = shrinking.ofa(norm=False, seed=rank).to(device)
        train(ofa, halves, TrainConfig(epochs=1, lr=0.05), progress=False)
        torch.save(ofa.model.cpu().state_dict(), folder / f"elastic{rank}.pt")
