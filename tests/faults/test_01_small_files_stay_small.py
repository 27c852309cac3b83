"""Once: a small file of weights took any amount of memory when it was read."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mutators import checkpoint, load_subnet, save_subnet
from mutators.subnet.folder import SubnetError
from mutators.weights import read_state


def to_bytes(state: dict[str, Tensor]) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def deflate(content: bytes) -> bytes:
    """Pack a file of torch's, which torch reads as well."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return stream.getvalue()


def put(folder: Path, weights: bytes, form: int) -> None:
    save_subnet(folder, nn.Linear(1, 1), {})
    (folder / "weights.pt").write_bytes(weights)
    arch = json.loads((folder / "arch.json").read_text())
    digest = hashlib.sha256(weights).hexdigest()
    (folder / "arch.json").write_text(json.dumps({**arch, "format": form, "weights_sha256": digest}))


def test_packed_files_are_not_unpacked(tmp_path: Path) -> None:
    content = deflate(to_bytes({"weight": torch.zeros(1 << 20), "bias": torch.zeros(1)}))
    assert len(content) < 1 << 16
    put(tmp_path / "net", content, 1)
    with pytest.raises(SubnetError, match="cannot be read as weights"):
        load_subnet(tmp_path / "net", nn.Linear(1, 1))
    with pytest.raises(ValueError, match="is not a state dict"):
        read_state(tmp_path / "net" / "weights.pt", ValueError)
    with pytest.raises(checkpoint.DamageError):
        checkpoint.from_bytes(content, "it")


@pytest.mark.parametrize("name", ["bits", "values", "shape"])
def test_sparse_weights_hold_what_they_say(tmp_path: Path, name: str) -> None:
    """A tensor that repeats one element was written out, terabytes of it."""
    parts = {
        "bits": torch.zeros(1, dtype=torch.uint8),
        "values": torch.zeros(1),
        "shape": torch.zeros(1, dtype=torch.int64),
    }
    parts[name] = parts[name].expand(10**12)
    put(tmp_path, to_bytes({f"{part}:weight": value for part, value in parts.items()}), 2)
    with pytest.raises(SubnetError, match="has parts of other types"):
        load_subnet(tmp_path, nn.Linear(1, 1))


def test_sparse_weights_that_are_nowhere(tmp_path: Path) -> None:
    bits, shape = torch.zeros(1, dtype=torch.uint8, device="meta"), torch.tensor([8])
    put(tmp_path, to_bytes({"bits:weight": bits, "values:weight": torch.zeros(0), "shape:weight": shape}), 2)
    with pytest.raises(SubnetError, match="has parts of other types"):
        load_subnet(tmp_path, nn.Linear(1, 1))
