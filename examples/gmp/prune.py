"""What ``nas prune`` is given: the network, its training, its score, what is not to be pruned."""

from __future__ import annotations

import os
from typing import Any

import torch
from net import build, images, loader
from torch import nn
from training import accuracy

from mutators import extract, search_space_of
from mutators.oneshot import TrainConfig
from search_spaces import Space

EPOCHS = int(os.environ.get("GMP_EPOCHS", "10"))  # run.py sets it

ARCHITECTURE = (0, 1, 2, 3, 0, 1, 2)
"""3x3, 5x5, 7x7, xception, 3x3, 5x5, 7x7."""


def choices() -> dict[str, Any]:
    """Return :data:`ARCHITECTURE` as choices, as a search would have found it."""
    return dict(Space.from_json(search_space_of(build())).decode(ARCHITECTURE))


def plain() -> nn.Module:
    """(N, 1, 28, 28) -> logits (N, 10); not trained."""
    return extract(build(), choices())


def training(network: nn.Module) -> dict[str, Any]:
    """The data, and how to train on with it: for ``nas prune --train``."""
    torch.set_num_threads(1)
    return {
        "loader": loader(images().train, shuffle=True),
        "config": TrainConfig(epochs=EPOCHS, lr=0.1, warmup_epochs=1, clip_norm=5.0),
    }


def score(network: nn.Module) -> float:
    """Accuracy on the test images: for ``nas prune --evaluate``."""
    return accuracy(network, images().test)


def by_shape(network: nn.Module) -> set[str]:
    """Names of all parameters but the weights of 1x1 convolutions: for ``--skip``, the same as ``--conv1x1-only``."""
    return {name for name, p in network.named_parameters() if p.dim() != 4 or p.shape[2:] != (1, 1)}


def by_layer(network: nn.Module) -> set[str]:
    """And those of the first stage too: its 1x1 convolutions are small, and there is little to gain."""
    return by_shape(network) | {name for name, _ in network.named_parameters() if name.startswith("stage1.")}
