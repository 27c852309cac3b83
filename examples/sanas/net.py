"""The networks of this example, their images, and how one is scored. No supernet: each is built and trained alone.

``python net.py`` writes what an NNI experiment needs: ``space.json`` and the exact costs, ``macs.json``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

import search_spaces
from search_spaces import Tokens, paddleslim
from search_spaces.cost import CostTable

sys.path.append(str(Path(__file__).resolve().parent.parent / "quickstart"))  # the images are loaded as there
from data import Data, Split, load
from training import accuracy, train

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
NAME = "MobileNetV2BlockSpace"
CONFIG = {"input_size": 14, "output_size": 4, "block_num": 5, "in_channels": 1, "num_classes": 10}
SPACE = search_spaces.space_of(NAME, **{name: value for name, value in CONFIG.items() if name != "num_classes"})


def tokens(*stages: tuple[int, int, int, int]) -> Tokens:
    """The architecture whose five stages have these (expansion, channels, repeat, kernel size)."""
    keys = ("expansion", "channels", "repeat", "kernel_size")
    named = {f"block{i}.{key}": str(v) for i, s in enumerate(stages, 1) for key, v in zip(keys, s, strict=True)}
    return tuple(SPACE.domains[key].names.index(name) for key, name in named.items())


# A small MobileNetV2, and 7 of its 13 layers: where the search starts, within half of its multiply-adds.
INITIAL = tokens((1, 8, 1, 3), (6, 12, 2, 3), (6, 16, 3, 3), (6, 32, 4, 3), (6, 48, 3, 3))
START = tokens((1, 8, 1, 3), (6, 12, 1, 3), (6, 16, 2, 3), (6, 32, 2, 3), (6, 48, 1, 3))


def build(**architecture: Any) -> nn.Module:
    """(N, 1, 14, 14) -> logits (N, 10), of ``tokens=`` or ``choices=``."""
    return search_spaces.build(NAME, **architecture, **CONFIG)


def costs() -> CostTable:
    """Exact multiply-adds and parameters of every architecture."""
    return paddleslim.cost_table_of(NAME, (1, 14, 14), **CONFIG)


def images(folder: str | None, limit: int | None) -> Data:
    """Images of 14 x 14, so that the CPU of a laptop is enough: Fashion-MNIST, or where there is none digits."""
    if folder is None and not FASHION_MNIST.is_dir():
        print("no Fashion-MNIST (Debian: apt-get install dataset-fashion-mnist): scikit-learn's digits instead")
    data = load(folder or (str(FASHION_MNIST) if FASHION_MNIST.is_dir() else None), limit)
    return Data(_scaled(data.train), _scaled(data.valid), _scaled(data.test))


def _scaled(split: Split) -> Split:
    return Split(nn.functional.interpolate(split.images, size=(14, 14), mode="area"), split.labels)


def score(network: nn.Module, train_on: Split, test_on: Split, epochs: int) -> float:
    """Accuracy after so many epochs."""
    torch.set_num_threads(1)
    for _ in train(network, train_on, epochs):
        pass
    return accuracy(network, test_on)


if __name__ == "__main__":
    table = costs()
    table.save("macs.json")
    Path("space.json").write_text(json.dumps(table.space.to_json(), indent=2) + "\n")
    print(f"space.json, macs.json: {table.space.size:.3g} architectures; half of the initial network's multiply-adds: "
          f"{table.cost('macs', INITIAL) / 2:.0f}")  # fmt: skip
