"""Once: a flipped bit in a supernet's or an elastic network's checkpoint was taken without a word."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mutators import LayerChoice, checkpoint
from mutators.checkpoint import DamageError
from mutators.elastic import OFA, RunConfig, convert, train
from mutators.elastic.training.shared_checkpoint import SharedCheckpointError, shared_checkpoint
from mutators.oneshot import OneShotError, TrainConfig, train_supernet

BATCHES = [(torch.ones(2, 4), torch.tensor([0, 1]))]
CONTENT = {"weights": torch.full((64,), 100.0), "step": 3}


class Supernet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.op = LayerChoice([nn.Linear(4, 4), nn.Identity()], key="op")
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.op(x))  # type: ignore[no-any-return]


def flip(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


def train_once(path: Path) -> None:
    train_supernet(Supernet(), BATCHES, TrainConfig(epochs=1, lr=0.1), checkpoint=path, progress=False)


def test_every_flipped_bit_is_noticed() -> None:
    data = checkpoint.to_bytes(CONTENT)
    for at in random.Random(0).sample(range(8 * len(data)), 2000) + list(range(8 * len(data) - 8 * 100, 8 * len(data))):
        with pytest.raises(DamageError):
            checkpoint.from_bytes(flip(data, at), "it")
    again = checkpoint.from_bytes(data, "it")
    assert torch.equal(again["weights"], CONTENT["weights"]) and again["step"] == 3  # type: ignore[arg-type]


def test_in_a_supernets_checkpoint(tmp_path: Path) -> None:
    train_once(tmp_path / "s.pt")
    data = (tmp_path / "s.pt").read_bytes()
    for at in random.Random(0).sample(range(8 * len(data)), 100):
        (tmp_path / "s.pt").write_bytes(flip(data, at))
        with pytest.raises(OneShotError, match="is no checkpoint, or damaged"):
            train_once(tmp_path / "s.pt")


def test_in_an_elastic_networks_checkpoint(tmp_path: Path) -> None:
    def go() -> None:
        net = convert(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), expand_ratio=(0.5, 1.0))
        config = TrainConfig(epochs=1, lr=0.1)
        train(OFA(net, RunConfig()), BATCHES, config, checkpoint=tmp_path, progress=False)

    go()
    (path,) = tmp_path.glob("*.pt")
    data = path.read_bytes()
    for at in random.Random(0).sample(range(8 * len(data)), 30):
        path.write_bytes(flip(data, at))
        with pytest.raises(OneShotError, match="is no checkpoint, or damaged"):
            go()


def test_in_a_shared_checkpoint(tmp_path: Path) -> None:
    with shared_checkpoint(tmp_path / "s.pt") as shared:
        shared.write(CONTENT)
        data = shared.path.read_bytes()
        for at in random.Random(0).sample(range(8 * len(data)), 300):
            shared.path.write_bytes(flip(data, at))
            with pytest.raises(SharedCheckpointError, match="or damaged: delete or restore it"):
                shared.read()


def test_torch_reads_the_file_as_before(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "s.pt", CONTENT)
    for mmap in (False, True):
        assert torch.load(tmp_path / "s.pt", weights_only=True, mmap=mmap)["step"] == 3


@pytest.mark.parametrize("read", [lambda path: checkpoint.read(path)["step"], torch.load], ids=["read", "torch"])
def test_one_without_a_checksum_loads_with_a_warning(tmp_path: Path, read: Callable) -> None:
    torch.save(CONTENT, tmp_path / "old.pt")
    if read is torch.load:
        assert read(tmp_path / "old.pt", weights_only=True)["step"] == 3
        return
    with pytest.warns(RuntimeWarning, match=r"old\.pt has no checksum"):
        assert read(tmp_path / "old.pt") == 3


def test_a_training_goes_on_from_a_checkpoint_of_before(tmp_path: Path) -> None:
    train_once(tmp_path / "s.pt")
    old = torch.load(tmp_path / "s.pt", weights_only=True)
    torch.save(old, tmp_path / "s.pt")
    with pytest.warns(RuntimeWarning, match="has no checksum"):
        train_once(tmp_path / "s.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint.write(tmp_path / "s.pt", old)
        train_once(tmp_path / "s.pt")
