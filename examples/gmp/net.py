"""The network that is pruned, one of a small space of ShuffleNetV2 blocks, and its images."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import search_spaces
from search_spaces.nets.shufflenet_v2 import ShuffleStage

sys.path.append(str(Path(__file__).resolve().parent.parent / "quickstart"))  # the images are loaded as there
from data import Data, Split, load

# Settings that every process of the example shares; run.py sets them.
DATA = os.environ.get("GMP_DATA", "/usr/share/datasets/fashion-mnist")
LIMIT = int(os.environ.get("GMP_LIMIT", "8000"))

BATCH = 96


def build() -> nn.Module:
    """(N, 1, 28, 28) -> logits (N, 10), with seven choices among 3x3, 5x5, 7x7 and xception blocks."""
    stages = (ShuffleStage(32, 2), ShuffleStage(64, 3), ShuffleStage(128, 2))
    return search_spaces.build("shufflenet_v2", num_classes=10, in_channels=1, strides=(2, 1, 2, 2), stages=stages)


@functools.cache
def images() -> Data:
    return load(DATA, LIMIT)


def loader(split: Split, shuffle: bool) -> DataLoader[Any]:
    return DataLoader(TensorDataset(split.images, split.labels), BATCH, shuffle=shuffle, drop_last=shuffle)
