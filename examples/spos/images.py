"""Fashion-MNIST at 14 x 14 pixels, in parts that share no image: those of the table of truth."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.append(str(Path(__file__).resolve().parent.parent / "quickstart"))  # the files are read as there
from data import Split, load

FOLDER = "/usr/share/datasets/fashion-mnist"
TRAIN, VALID, TEST = 16_000, 5_000, 5_000


@dataclass(frozen=True)
class Images:
    """Images (N, 1, 14, 14) of mean 0 and deviation 1, and their classes.

    Attributes:
        train: 16,000, which networks and supernets are trained with.
        valid: 5,000, by which searches choose and supernets score.
        test: 5,000, which say how good a network is.
    """

    train: Split
    valid: Split
    test: Split


def read_images(folder: str = FOLDER, train: int = TRAIN) -> Images:
    """Return the same parts at every call. Raises SystemExit if a file is missing or damaged."""
    data = load(folder)
    return Images(_shrink(data.train, train), _shrink(data.valid, VALID), _shrink(data.test, TEST))


def _shrink(split: Split, count: int) -> Split:
    """Return the first images with a quarter of their pixels: those of Debian's files have mean .286, deviation .32."""
    pixels = F.avg_pool2d(split.images[:count], 2)
    return Split(((pixels - 0.286) / 0.32).contiguous(memory_format=torch.channels_last), split.labels[:count])


class Batches:
    """A loader that cuts batches out of tensors, in an order drawn anew each time; torch's takes them one by one."""

    def __init__(self, split: Split, size: int) -> None:
        self.split, self.size = split, size

    def __len__(self) -> int:
        return len(self.split) // self.size

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for at in torch.randperm(len(self.split)).split(self.size)[: len(self)]:
            yield self.split.images[at], self.split.labels[at]
