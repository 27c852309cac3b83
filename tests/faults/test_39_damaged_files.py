"""Once: damage in checkpoints, journals, cfg and idx files gave raw errors. Each has one documented error class."""

from __future__ import annotations

import copy
import gzip
import importlib.util
import json
import logging
import os
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from mutators import ChoiceError, InputChoice, LayerChoice, apply_fixed_architecture, checkpoint, load_subnet
from mutators.elastic import OFA, ElasticError, RunConfig, convert
from mutators.elastic.training.shared_checkpoint import SharedCheckpointError, shared_checkpoint
from mutators.mmrazor import OneShotMutator, load_mutable_cfg
from mutators.oneshot import OneShotError, TrainConfig, train_supernet
from mutators.subnet.folder import SubnetError
from nas_tuners import Run
from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import load
from nas_tuners.sanas import SANAS, SANASError
from nas_tuners.search import Evolution
from search_spaces import Space
from search_spaces.cost import CostTable
from search_spaces.errors import CostError
from tests.nas_tuners.nas import Nas

ROOT = Path(__file__).parent.parent.parent
STRANGE = [None, [], {}, "x", -1, 1.5, True, 10**30, [[]], [None], {"a": 1}, "\ud800", 1e308]
ONE = ("MobileNetV2BlockSpace", {"input_size": 32, "output_size": 8, "block_num": 2})


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nas:
    return Nas(capfd, monkeypatch)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Damaged files may warn as they like."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Flip a bit, cut off the end, drop or insert some bytes."""
    changed, at = bytearray(data), rng.randrange(len(data))
    how = rng.randrange(4)
    if how == 0:
        changed[at] ^= 1 << rng.randrange(8)
    elif how == 1:
        del changed[at:]
    elif how == 2:
        del changed[at : at + rng.randrange(1, 50)]
    else:
        changed[at:at] = bytes(rng.randrange(256) for _ in range(5))
    return bytes(changed)


def changed(value: Any, rng: random.Random) -> Any:
    """Copy nested data with one of its parts, at any depth, deleted or replaced by something strange."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    holder, key = rng.choice(places)
    if rng.random() < 0.3:
        del holder[key]
    else:
        holder[key] = copy.deepcopy(rng.choice(STRANGE))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from _places(value[key])


def refuses(kind: type[Exception] | tuple[type[Exception], ...], action: Callable[[], object]) -> bool:
    """Return whether it raised an error of the documented class; anything else that is raised fails the test."""
    try:
        action()
    except kind:
        return True
    return False


class Supernet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.op = LayerChoice([nn.Linear(4, 4), nn.Identity()], key="op")
        self.skip = InputChoice(2, key="skip")
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.skip([self.op(x), x]))  # type: ignore[no-any-return]


def train_once(path: Path) -> None:
    batches = [(torch.ones(2, 4), torch.tensor([0, 1]))]
    train_supernet(Supernet(), batches, TrainConfig(epochs=1, lr=0.1), checkpoint=path, progress=False)


@pytest.mark.parametrize("seed", range(60))
def test_checkpoints_of_supernets(tmp_path: Path, seed: int) -> None:
    path, rng = tmp_path / "s.pt", random.Random(seed)
    train_once(path)
    good = path.read_bytes()
    path.write_bytes(damaged(good, rng))
    assert refuses(OneShotError, lambda: train_once(path))
    path.write_bytes(good)
    content = torch.load(path, weights_only=True)
    checkpoint.write(path, changed(content, rng))
    refuses(OneShotError, lambda: train_once(path))
    torch.save(changed(content, rng), path)  # of an earlier version
    path.write_bytes(damaged(path.read_bytes(), rng))
    refuses(OneShotError, lambda: train_once(path))


@pytest.mark.parametrize("seed", range(60))
def test_shared_checkpoints(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with shared_checkpoint(tmp_path / "s.pt") as shared:
        shared.write({"model": Supernet().state_dict()})
        good = shared.path.read_bytes()
        shared.path.write_bytes(damaged(good, rng))
        assert refuses(SharedCheckpointError, shared.read)
        torch.save({"model": Supernet().state_dict()}, shared.path)
        shared.path.write_bytes(damaged(shared.path.read_bytes(), rng))
        refuses(SharedCheckpointError, shared.read)
        for strange in (b"", b"PK", good[-22:], b"\0" * 100):
            shared.path.write_bytes(strange)
            assert refuses(SharedCheckpointError, shared.read)


@pytest.mark.parametrize("seed", range(40))
def test_the_state_of_an_elastic_network(seed: int) -> None:
    ofa = OFA(convert(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), expand_ratio=(0.5, 1.0)), RunConfig())
    ofa.set_task("width")
    state = ofa.get_extra_state()
    refuses(ElasticError, lambda: ofa.set_extra_state(changed(state, random.Random(seed))))
    for strange in STRANGE[:9]:
        assert refuses(ElasticError, lambda strange=strange: ofa.set_extra_state(strange))  # type: ignore[misc]
    ofa.set_extra_state(state)


def variants(journal: Path, rng: random.Random) -> Iterator[bytes]:
    """Yield a journal with damage, and with a line that holds something else."""
    lines = journal.read_text().splitlines()
    yield damaged(journal.read_bytes(), rng)
    for at in (0, rng.randrange(1, len(lines))):
        line = changed(json.loads(lines[at]), rng)
        if isinstance(line, dict):
            line.pop("crc32", None)  # by hand, so that what stands there is read
        text = "\n".join([*lines[:at], json.dumps(line), *lines[at + 1 :]])
        yield (text + "\n").encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("seed", range(40))
def test_checkpoints_of_sanas(tmp_path: Path, seed: int) -> None:
    with SANAS(ONE, save_checkpoint=tmp_path / "good", search_steps=4) as sanas:
        for step, _ in enumerate(sanas):
            sanas.reward(step)
    journal = tmp_path / "bad" / "journal.jsonl"
    journal.parent.mkdir()
    for data in variants(tmp_path / "good" / "journal.jsonl", random.Random(seed)):
        journal.write_bytes(data)
        refuses(
            (JournalError, SANASError),
            lambda: SANAS(ONE, load_checkpoint=journal.parent, save_checkpoint=None, search_steps=4),
        )


SPACE = {
    "a": {"_type": "layer_choice", "_value": ["x", "y", "z"]},
    "b": {"_type": "input_choice", "_value": {"candidates": ["p", "q"], "n_chosen": 1}},
}


def make_run(path: Path, **more: Any) -> None:
    run = Run.start(Evolution(seed=1), Space.from_json(SPACE), path=path, **more)
    for proposal in run.ask(4):
        run.tell(proposal.uid, {"default": proposal.uid / 7, "macs": 3})
    run.close()


@pytest.mark.parametrize("seed", range(40))
def test_journals(tmp_path: Path, nas: Nas, seed: int) -> None:
    command = {"name": "search", "functions": {"evaluate": "builtins:len"}, "algorithm": "evolution"}
    command |= {"trials": 4, "workers": 1, "folder": str(tmp_path)}
    make_run(tmp_path / "journal.jsonl", command=command)
    bad = tmp_path / "bad" / "journal.jsonl"
    bad.parent.mkdir()
    for data in variants(tmp_path / "journal.jsonl", random.Random(seed)):
        for words in (("show", "bad"), ("show", "bad", "--json"), ("resume", "bad", "--evaluate", "builtins:len")):
            bad.write_bytes(data)
            code = int(refuses(JournalError, lambda: load(bad)))
            nas(*words, cwd=tmp_path, code=code) if words[0] == "show" else _either(nas, *words, cwd=tmp_path)


def _either(nas: Nas, *words: str, cwd: Path) -> None:
    """Run a command that may succeed or fail, but never with a traceback."""
    try:
        nas(*words, cwd=cwd)
    except AssertionError as error:  # a code other than 0
        assert "Traceback" not in str(error)


def test_a_header_is_checked_whole(tmp_path: Path) -> None:
    make_run(tmp_path / "journal.jsonl")
    first, *rest = (tmp_path / "journal.jsonl").read_text().splitlines(keepends=True)
    for search in ([], {}, {"name": 3, "arguments": {}}, {"name": "x", "arguments": []}):
        text = json.dumps({**json.loads(first), "search": search, "digest": None})
        (tmp_path / "journal.jsonl").write_text(text + "\n" + "".join(rest))
        with pytest.raises(JournalError, match=r"line 1: the header does not fit: digest is None.*search"):
            load(tmp_path / "journal.jsonl")


def test_every_flipped_bit_of_an_event_is_noticed_or_harmless(tmp_path: Path) -> None:
    make_run(tmp_path / "journal.jsonl")
    data = (tmp_path / "journal.jsonl").read_bytes()
    begin = data.index(b"\n") + 1
    told = [trial.metrics for trial in load(tmp_path / "journal.jsonl")[0].search.trials.values()]
    taken = 0
    for at in random.Random(0).sample(range(8 * begin, 8 * len(data)), 300):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        (tmp_path / "journal.jsonl").write_bytes(flipped)
        if not refuses(JournalError, lambda: load(tmp_path / "journal.jsonl")):
            found = [trial.metrics for trial in load(tmp_path / "journal.jsonl")[0].search.trials.values()]
            assert [metrics for metrics in found if metrics] in (told, told[:-1])  # the checksum's name, or the end
            taken += 1
    assert taken < 60


CFG = {"op": {"chosen": ["0"]}, "skip": {"_value": ["0"], "_idx": [0]}}
YAML_OF_ITS_OWN = [
    "op: 2001-99-99",
    "op: 0x_",
    "op: !!int x",
    "op: !!float x",
    "op: !!binary x",
    "op: !!timestamp x",
    "? [op]\n: b",
    "? {a: b}\n: c",
    "<<: 3",
    "op: &a [*a]",
    "op: &a {chosen: *a}",
    "op: " + "1" * 5000,
    "[" * 5000,
    "\0",
    "%YAML 9.9\n---\nop: b",
    "!!python/object/apply:os.getcwd []",
]


@pytest.mark.parametrize("text", YAML_OF_ITS_OWN, ids=lambda text: text[:20])
def test_a_mutable_cfg_that_yaml_cannot_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "cfg.yaml").write_text(text)
    assert refuses(
        ChoiceError, lambda: OneShotMutator().deploy_subnet(Supernet(), load_mutable_cfg(tmp_path / "cfg.yaml"))
    )


@pytest.mark.parametrize("seed", range(60))
def test_mutable_cfg_and_fixed_architectures(tmp_path: Path, seed: int) -> None:
    rng, path = random.Random(seed), tmp_path / "cfg.yaml"
    for write in (yaml.safe_dump, json.dumps):
        text = write(changed(CFG, rng)).encode("utf-8", "surrogatepass")
        for data in (text, damaged(text, rng) if text else text):
            path.write_bytes(data)
            refuses(ChoiceError, lambda: OneShotMutator().deploy_subnet(Supernet(), load_mutable_cfg(path)))
            refuses(ChoiceError, lambda: apply_fixed_architecture(Supernet(), path))


@pytest.fixture(scope="module")
def images() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart_data", ROOT / "examples/quickstart/data.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


def write_idx(path: Path, *shape: int, lead: bytes = b"\0\0\x08", extra: int = 0) -> None:
    sizes = b"".join(size.to_bytes(4, "big") for size in shape)
    path.write_bytes(gzip.compress(lead + bytes([len(shape)]) + sizes + bytes(torch.Size(shape).numel() + extra)))


@pytest.mark.parametrize("seed", range(60))
def test_idx_files(tmp_path: Path, images: ModuleType, seed: int) -> None:
    rng = random.Random(seed)
    for name in images.FILES:
        write_idx(tmp_path / name, *((12,) if "labels" in name else (12, 4, 4)))
    assert len(images.load(str(tmp_path)).train) == 9
    path = tmp_path / rng.choice(images.FILES)
    path.write_bytes(damaged(path.read_bytes(), rng))
    try:
        assert len(images.load(str(tmp_path)).train) == 9  # what was hit was the time in the file, or the like
    except SystemExit as error:
        assert str(path) in str(error)


def test_idx_files_that_are_whole_but_wrong(tmp_path: Path, images: ModuleType) -> None:
    def fill() -> None:
        for name in images.FILES:
            write_idx(tmp_path / name, *((12,) if "labels" in name else (12, 4, 4)))

    label, image = (next(name for name in images.FILES if part in name) for part in ("labels", "images"))
    fill()
    for shape, lead, extra in (((11,), b"\0\0\x08", 0), ((12,), b"\0\0\x09", 0), ((12,), b"\0\0\x08", 3), ((), b"", 0)):
        write_idx(tmp_path / label, *shape, lead=lead, extra=extra)
        with pytest.raises(SystemExit, match="labels"):
            images.load(str(tmp_path))
    for shape in ((12, 4, 5), (12, 16), (0, 4, 4)):
        fill()
        write_idx(tmp_path / image, *shape)
        with pytest.raises(SystemExit, match="images"):
            images.load(str(tmp_path))


def test_a_pipe_or_a_device_in_a_files_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "arch.json")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(SubnetError, match="no ordinary file"):
        load_subnet(tmp_path)
    for read in (load_mutable_cfg, lambda path: apply_fixed_architecture(Supernet(), path)):
        with pytest.raises(ChoiceError, match="no ordinary file"):
            read(tmp_path / "zero")  # type: ignore[operator]
    with pytest.raises(OneShotError, match="no ordinary file"):
        train_once(tmp_path / "zero")
    with pytest.raises(CostError, match="no ordinary file"):
        CostTable.load(tmp_path / "zero")
