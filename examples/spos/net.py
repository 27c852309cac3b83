"""The supernet of this example, its data, and the two functions that the commands call: ``score`` and ``retrain``.

Run by itself (by ``nas ss-gen``) it emits the search space: seven ShuffleNetV2 blocks, four options each.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import search_spaces
from mutators import extract, get_and_apply_next_architecture
from mutators.oneshot import TrainConfig, evaluate, train_supernet
from search_spaces.nets.shufflenet_v2 import ShuffleStage

sys.path.append(str(Path(__file__).resolve().parent.parent / "quickstart"))  # the images are loaded as there
from data import Data, Split, load
from training import accuracy

# Settings that every process of the example shares; run.py sets them.
DATA = os.environ.get("SPOS_DATA", "/usr/share/datasets/fashion-mnist")
LIMIT = int(os.environ.get("SPOS_LIMIT", "8000"))
EPOCHS = int(os.environ.get("SPOS_EPOCHS", "5"))
FOLDER = Path(os.environ.get("SPOS_FOLDER", "runs/spos"))

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


def train(model: nn.Module, epochs: int, checkpoint: Path | None = None) -> None:
    """The same training for the supernet, the winner and the random networks."""
    torch.set_num_threads(1)
    config = TrainConfig(epochs=epochs, lr=0.1, warmup_epochs=0.5, label_smoothing=0.1, clip_norm=5.0)
    train_supernet(model, loader(images().train, shuffle=True), config, checkpoint=checkpoint)


@functools.cache
def supernet() -> nn.Module:
    torch.set_num_threads(1)
    model = build()
    model.load_state_dict(torch.load(FOLDER / "supernet.pt", weights_only=True))
    return model


def score(choices: dict[str, Any]) -> float:
    """Accuracy on the validation images with the supernet's weights, after recalibrating the batch norms."""
    data = images()
    found = evaluate(
        supernet(), choices, loader(data.valid, shuffle=False), loader(data.train, shuffle=True), batches=10
    )
    return float(found["default"])


def retrain(choices: dict[str, Any]) -> float:
    """Accuracy on the test images of the plain network, trained from scratch."""
    torch.manual_seed(0)
    network = extract(build(), choices)
    train(network, EPOCHS)
    return accuracy(network, images().test)


if __name__ == "__main__":
    get_and_apply_next_architecture(build())
