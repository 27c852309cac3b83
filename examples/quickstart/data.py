"""Real images: scikit-learn's digits, which it brings along, or the four idx.gz files of an MNIST-like data set."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


_MOST = 1 << 28  # bytes of a file when it is unpacked


@dataclass(frozen=True)
class Split:
    """Images (N, 1, H, W), float in [0, 1], and their classes (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """The search sees ``train`` and ``valid``; ``test`` is looked at once, by the network that was found."""

    train: Split
    valid: Split
    test: Split


def load(folder: str | None = None, limit: int | None = None) -> Data:
    """Load a data set and split off a validation set, the same one at every call.

    Args:
        folder: with the files named in ``FILES``, such as Debian's dataset-fashion-mnist installs them; None: digits.
        limit: how many images to use for training and validation together, and as many for testing.

    Raises SystemExit if a file is missing or damaged.
    """
    rest, test = _digits() if folder is None else _idx(Path(folder))
    order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(0))[:limit]
    valid, train = order[: len(order) // 4], order[len(order) // 4 :]
    return Data(_part(rest, train), _part(rest, valid), _part(test, torch.arange(len(test))[:limit]))


def _part(split: Split, at: Tensor) -> Split:
    return Split(split.images[at], split.labels[at])


def _digits() -> tuple[Split, Split]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images / 16.0, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    return tuple(Split(images[at], labels[at]) for at in (order[360:], order[:360]))  # type: ignore[return-value]


def _idx(folder: Path) -> tuple[Split, Split]:
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise SystemExit(
            f"--data {folder} lacks {', '.join(missing)}. On Debian: apt-get install dataset-fashion-mnist"
        )
    arrays = [_read(folder / name, 1 if "labels" in name else 3) for name in FILES]
    for images, labels in (arrays[:2], arrays[2:]):
        if len(images) != len(labels) or not len(images):
            raise SystemExit(
                f"--data {folder} has {len(images)} images and {len(labels)} labels, wanted as many of both."
            )
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        raise SystemExit(f"--data {folder} has images of {arrays[0].shape[1:]} and of {arrays[2].shape[1:]} pixels.")
    return tuple(  # type: ignore[return-value]
        Split(torch.from_numpy(images).unsqueeze(1).float() / 255, torch.from_numpy(labels).long())
        for images, labels in (arrays[:2], arrays[2:])
    )


def _read(path: Path, dimensions: int) -> np.ndarray:
    """One idx file: two zero bytes, the type (8: unsigned byte), the number of dimensions, the dimensions, the data."""
    try:
        with gzip.open(path) as file:  # it has a checksum
            data = file.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise SystemExit(f"{path} cannot be read, or is damaged: {error}. Get it anew.") from None
    if data[:4] != bytes([0, 0, 8, dimensions]):
        raise SystemExit(f"{path} is not an idx file of bytes in {dimensions} dimensions.")
    start = 4 + 4 * dimensions
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4)]
    if len(data) > _MOST or len(data) != start + math.prod(shape):
        raise SystemExit(f"{path} is damaged: it has {len(data) - start} bytes, wanted {' x '.join(map(str, shape))}.")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()
