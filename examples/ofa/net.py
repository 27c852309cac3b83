"""The network of this example, the supernet that is made of it, and its data."""

from __future__ import annotations

import functools
import os
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mutators import get_and_apply_next_architecture
from mutators.elastic import convert

sys.path.append(str(Path(__file__).resolve().parent.parent / "quickstart"))  # the images are loaded as there
from data import Data, Split, load

# Settings that every process of the example shares; run.py sets them.
DATA = os.environ.get("OFA_DATA", "/usr/share/datasets/fashion-mnist")
LIMIT = int(os.environ.get("OFA_LIMIT", "6000"))

BATCH = 64
KERNELS, RATIOS, DEPTHS = (3, 5), (0.5, 0.75, 1.0), (1, 2, 3)


class Block(nn.Module):
    """A wider middle between two 1x1 convolutions, and a sum where the shape stays; (N, C_in, H, W)."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        middle = 3 * channels
        self.expand = nn.Sequential(nn.Conv2d(channels, middle, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU())
        depthwise = nn.Conv2d(middle, middle, 5, stride, padding=2, groups=middle, bias=False)
        self.depthwise = nn.Sequential(depthwise, nn.BatchNorm2d(middle), nn.ReLU())
        self.project = nn.Sequential(nn.Conv2d(middle, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.keeps = stride == 1 and channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """To (N, C_out, H / stride, W / stride)."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.keeps else y


def plain() -> nn.Module:
    """(N, 1, 28, 28) -> logits (N, 10): two stages of three blocks. Nothing here knows of any search."""
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
            stage1=nn.Sequential(Block(16, 16, 1), Block(16, 16, 1), Block(16, 16, 1)),
            stage2=nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1)),
            pool=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            head=nn.Linear(32, 10),
        )
    )


def build() -> nn.Module:
    """The supernet: kernels, middle widths and depths elastic; the stages' own widths stay.

    Channels last, which makes a step three times as fast on a CPU.
    """
    kept = ["stem", *(f"stage{s}.{b}.project.0" for s in (1, 2) for b in range(3))]
    stages = {"stage1": DEPTHS, "stage2": DEPTHS}
    supernet = convert(
        plain(),
        kernel_size=KERNELS,
        expand_ratio=RATIOS,
        depth=stages,
        skip_layers=kept,
        input_shape=(1, 1, 28, 28),
    )
    return supernet.to(memory_format=torch.channels_last)


@functools.cache
def images() -> Data:
    return load(DATA, LIMIT)


def loader(split: Split, shuffle: bool) -> DataLoader[Any]:
    return DataLoader(TensorDataset(split.images, split.labels), BATCH, shuffle=shuffle, drop_last=shuffle)


if __name__ == "__main__":
    get_and_apply_next_architecture(build())
