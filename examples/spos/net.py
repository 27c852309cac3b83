"""The supernet of this example, and the functions that the commands call: ``score`` and ``retrain``.

Run by itself (by ``nas ss-gen``) it emits the search space: five places of seven operations.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import torch
from images import FOLDER as FASHION_MNIST
from images import Batches, Images, read_images
from torch import nn

import search_spaces
from mutators import extract, get_and_apply_next_architecture
from mutators.oneshot import TrainConfig, evaluate, train_supernet

# Settings that every process of the example shares; run.py sets them.
DATA = os.environ.get("SPOS_DATA", FASHION_MNIST)
LIMIT = int(os.environ.get("SPOS_LIMIT", "16000"))
STEPS = int(os.environ.get("SPOS_STEPS", "1071"))
FOLDER = Path(os.environ.get("SPOS_FOLDER", "runs/spos"))

BATCH, EPOCHS = 64, 4


def build() -> nn.Module:
    """(N, 1, 14, 14) -> logits (N, 10), with five choices among seven operations."""
    return search_spaces.build("nas_bench_fashion").to(memory_format=torch.channels_last)


@functools.cache
def images() -> Images:
    torch.set_num_threads(1)
    return read_images(DATA, LIMIT)


def train_all(supernet: nn.Module, checkpoint: Path) -> None:
    """Train the supernet: each of the seven operations once in each step, on the same batch."""
    batches = Batches(images().train, BATCH)
    epochs = -(-STEPS // len(batches))
    config = TrainConfig(epochs=epochs, strategy="fair", lr=0.03, weight_decay=1e-4)
    train_supernet(supernet, batches, config, checkpoint=checkpoint)


def train_alone(network: nn.Module, seed: int) -> None:
    """Train a plain network as those of the table were trained."""
    config = TrainConfig(epochs=EPOCHS, lr=0.1, seed=seed)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    train_supernet(network, Batches(images().train, BATCH), config, optimizer=optimizer, progress=False)


@functools.cache
def supernet() -> nn.Module:
    model = build()
    model.load_state_dict(torch.load(FOLDER / "supernet.pt", weights_only=True))
    return model


def adapt(network: nn.Module) -> None:
    """Train a network for some steps from the supernet's weights."""
    batches = Batches(images().train, BATCH)
    config = TrainConfig(epochs=1, steps_per_epoch=min(37, len(batches)), lr=0.1, weight_decay=1e-4)
    train_supernet(network, batches, config, progress=False)


def score(choices: dict[str, Any]) -> float:
    """Return the log likelihood of the validation images, by a network that began with the supernet's weights."""
    valid, calibration = Batches(images().valid, 500), Batches(images().train, 250)
    found = evaluate(supernet(), choices, valid, calibration, batches=8, metric="log_likelihood", adapt=adapt)
    return float(found["default"])


def retrain(choices: dict[str, Any]) -> float:
    """Return the accuracy on validation images of the plain network, trained from scratch."""
    torch.manual_seed(0)
    network = extract(build(), choices)
    train_alone(network, seed=0)
    return float(evaluate(network, {}, Batches(images().valid, 500))["default"])


if __name__ == "__main__":
    get_and_apply_next_architecture(build())
