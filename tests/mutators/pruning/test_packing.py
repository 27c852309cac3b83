"""Packed state dicts: exact to the bit, smaller where they should be, and what is broken is said."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from mutators import SubnetError, load_subnet, save_subnet
from mutators.pruning import PruningError, UnstructuredPruner
from mutators.pruning.packing import pack, unpack

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def build() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 512, 1), nn.Conv2d(512, 256, 1))


def pruned(ratio: float) -> nn.Module:
    torch.manual_seed(0)
    net = build()
    UnstructuredPruner(net, ratio=ratio, prune_params_type="conv1x1_only").step()
    return net


def same_bits(a: Tensor, b: Tensor) -> bool:
    integer = INTEGERS[a.itemsize] if a.is_floating_point() else a.dtype
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.contiguous().view(integer), b.view(integer))


@given(
    shape=st.lists(st.integers(0, 40), max_size=3),
    share=st.floats(0, 1),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 999),
)
def test_a_round_trip_is_exact_to_the_bit(shape: list[int], share: float, dtype: torch.dtype, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    special = torch.tensor([-0.0, float("inf"), float("-inf"), float("nan"), torch.finfo(dtype).tiny / 2], dtype=dtype)
    flat = tensor.view(-1)
    for number in special[: len(flat)]:
        flat[int(torch.randint(len(flat), (), generator=generator))] = number
    flat[torch.rand(len(flat), generator=generator) < share] = 0
    state = {"a:b": tensor, "count": torch.tensor(3), "flag": torch.tensor([True, False])}
    again = unpack(pack(state))
    assert list(again) == list(state)
    assert all(same_bits(state[name], again[name]) for name in state)


def test_memory_formats_and_tied_tensors() -> None:
    weight = torch.randn(8, 64, 3, 3) * (torch.rand(8, 64, 3, 3) > 0.9)
    state = {"a": weight.to(memory_format=torch.channels_last), "b": weight, "c": weight[:, ::2]}
    again = unpack(pack(state))
    assert all(torch.equal(state[name], again[name]) for name in state)


@pytest.mark.parametrize(
    ("zeros", "dtype", "size"),
    [
        (0.75, torch.float32, 1 / 32 + 0.25),
        (0.85, torch.float32, 1 / 32 + 0.15),
        (0.75, torch.float16, 1 / 16 + 0.25),
        (1.0, torch.float32, 1 / 32),
        (0.02, torch.float32, 1.0),  # bits would cost more than they save
    ],
)
def test_how_large_it_is(zeros: float, dtype: torch.dtype, size: float) -> None:
    weight = torch.ones(40_000, dtype=dtype)
    weight[: int(zeros * 40_000)] = 0
    taken = sum(t.numel() * t.itemsize for t in pack({"w": weight.view(200, 200)}).values())
    assert taken == pytest.approx(size * 40_000 * dtype.itemsize, abs=16)


@pytest.mark.parametrize(("ratio", "most"), [(0.75, 0.35), (0.85, 0.25)])
def test_a_sparse_folder_is_smaller_and_loads_the_same(tmp_path: Path, ratio: float, most: float) -> None:
    net, sizes = pruned(ratio), {}
    for sparse in (False, True):
        folder = tmp_path / str(sparse)
        save_subnet(folder, net, {}, sparse=sparse)
        sizes[sparse] = (folder / "weights.pt").stat().st_size
        again = load_subnet(folder, build()).state_dict()
        assert all(torch.equal(value, again[name]) for name, value in net.state_dict().items())
    assert sizes[True] < most * sizes[False]
    tensors = torch.load(tmp_path / "True" / "weights.pt", weights_only=True)
    assert all(isinstance(value, Tensor) for value in tensors.values())
    assert "bits:2.weight" in tensors and "dense:0.weight" in tensors


@pytest.mark.parametrize(
    ("sparse", "taken_for", "said"),
    [(True, 1, "do not fit"), (False, 2, "is of no known kind"), (True, 3, "has format 3")],
)
def test_weights_in_another_format_than_said_are_refused(
    tmp_path: Path, sparse: bool, taken_for: int, said: str
) -> None:
    save_subnet(tmp_path, pruned(0.85), {}, sparse=sparse)
    arch = json.loads((tmp_path / "arch.json").read_text())
    assert arch["format"] == 1 + sparse
    (tmp_path / "arch.json").write_text(json.dumps({**arch, "format": taken_for}))
    with pytest.raises(SubnetError, match=said):
        load_subnet(tmp_path, build())


def broken(**parts: Any) -> dict[str, Tensor]:
    weight = torch.zeros(1000)
    weight[3] = 1
    packed = {**pack({"w": weight}), **{key.replace("_", ":"): value for key, value in parts.items()}}
    return {key: value for key, value in packed.items() if value is not None}


BROKEN = [
    ({"values_w": None}, "'w' lacks values"),
    ({"bits_w": None, "shape_w": None}, "'w' lacks bits, shape"),
    ({"dense_w": torch.zeros(3)}, "there twice"),
    ({"other_w": torch.zeros(3)}, "'other:w' is of no known kind"),
    ({"shape_w": torch.tensor([1001])}, "not a bit for each element"),
    ({"shape_w": torch.tensor([-10, -100])}, "not a bit for each element"),
    ({"shape_w": torch.tensor([2**40, 2**40])}, "not a bit for each element"),
    ({"shape_w": torch.tensor(1000)}, "other types"),
    ({"bits_w": torch.zeros(125)}, "other types"),
    ({"values_w": torch.ones(2)}, "2 values for 1 bits"),
    ({"shape_w": torch.tensor([993]), "bits_w": torch.tensor([16] + [0] * 123 + [1], dtype=torch.uint8)}, "for 2 bits"),
]


@pytest.mark.parametrize(("parts", "said"), BROKEN)
def test_what_is_broken_is_said(parts: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(PruningError, match=said):
        unpack(broken(**parts))
    save_subnet(tmp_path, nn.Linear(1, 1), {}, sparse=True)
    stream = io.BytesIO()
    torch.save(broken(**parts), stream)
    (tmp_path / "weights.pt").write_bytes(stream.getvalue())
    arch = json.loads((tmp_path / "arch.json").read_text())
    arch["weights_sha256"] = hashlib.sha256(stream.getvalue()).hexdigest()
    (tmp_path / "arch.json").write_text(json.dumps(arch))
    with pytest.raises(SubnetError, match=f"(?s)weights.pt is broken.*{said}"):
        load_subnet(tmp_path, nn.Linear(1, 1))


def test_all_that_is_broken_is_said_at_once() -> None:
    with pytest.raises(PruningError) as error:
        unpack({"bits:a": torch.zeros(1), "what": torch.zeros(1)})
    assert len(error.value.problems) >= 2
