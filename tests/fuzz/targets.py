"""What is fuzzed: valid files, each with all that reads it, and the errors that this may raise."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from examples.quickstart import data
from mutators import LayerChoice, checkpoint, extract, load_subnet, save_subnet
from mutators.choices.errors import ChoiceError, ElasticError, OneShotError
from mutators.elastic.search.journal import open_run
from mutators.elastic.training.shared_checkpoint import SharedCheckpointError, shared_checkpoint
from mutators.mmrazor.mutable_cfg import load_mutable_cfg, read_subnet
from mutators.oneshot import TrainConfig, train_supernet
from mutators.oneshot.checkpoint import read_checkpoint, write_checkpoint
from mutators.subnet.folder import SubnetError
from nas_tuners.cli import main
from nas_tuners.hosts.nni.experiments import list_experiments
from nas_tuners.hosts.nni.manager import ManagerError
from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.loop import run_search
from nas_tuners.runs.run import Run, load
from nas_tuners.sanas import SANAS, SANASError
from nas_tuners.search import Evolution, RandomSearch
from nas_tuners.show.text import describe_run, summarize
from search_spaces import Space, SpaceError
from search_spaces.cost import CostTable
from search_spaces.errors import ConstraintError, CostError
from tests.nas_tuners import functions
from tests.spaces import SPACES, inputs, layer

HERE = "tests.nas_tuners.functions"
SMALL = {"in": inputs(1, "a", "b", "c"), "op": layer("p", "q")}
Reader = Callable[[Path], object]


@dataclass(frozen=True)
class Target:
    """A file to damage, among others that its readers need.

    Args:
        file: its place in the folder.
        make: writes it and the others.
        readers: functions of the folder, each with the errors that it is documented to raise.
        rare: readers that take long, for one input of twenty.
        inputs: how many of a whole fuzz.
    """

    file: str
    make: Callable[[Path], object]
    readers: Mapping[Reader, tuple[type[BaseException], ...]]
    rare: Mapping[Reader, tuple[type[BaseException], ...]] = field(default_factory=dict)
    inputs: int = 1000


class CommandFailed(AssertionError):
    """A command printed a traceback, or ended otherwise than commands do."""


def command(*words: str) -> Reader:
    """Return a reader that runs ``nas`` in the folder."""

    def run(folder: Path) -> None:
        said = io.StringIO()
        with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(words)
        text = said.getvalue()
        if code not in (0, 1) or "Traceback" in text or (code and "nas: " not in text):
            raise CommandFailed(f"nas {' '.join(words)}: {code}\n{text}")

    return run


def build() -> nn.Module:
    """Return a model of one choice."""
    return nn.Sequential(LayerChoice({"p": nn.Linear(2, 2), "q": nn.Identity()}, key="op"), nn.Linear(2, 1))


# Spaces


def make_space(folder: Path) -> None:
    wide = {"op": layer("p", "q"), "in": inputs([1, 2], "a", "b", "c"), "any": inputs(None, "a", "b")}
    (folder / "space.json").write_text(json.dumps(wide | SPACES["with hyper-parameters"], indent=1))


def use_space(folder: Path) -> None:
    space = Space.load(folder / "space.json")
    assert Space.from_json(space.to_json()) == space
    assert repr(space)
    run = Run.start(RandomSearch(seed=1), space)
    for proposal in run.ask(3):
        assert space.encode(json.loads(json.dumps(proposal.choices))) == proposal.tokens


SEARCH = ("search", "space.json", "--evaluate", f"{HERE}:good", "--trials", "3", "-o", "found")


# Configurations


def make_config(folder: Path) -> None:
    make_space(folder)
    (folder / "trial.py").touch()
    (folder / "config.yml").write_text(
        "experimentName: fuzz\nsearchSpaceFile: space.json\ntrialCommand: python3 trial.py\ntrialConcurrency: 2\n"
        "maxTrialNumber: 24\nmaxExperimentDuration: 2h\ntuner:\n  className: nas_tuners.AnnealingTuner\n"
        "  codeDirectory: .\n  classArgs: {optimize_mode: maximize, init_temperature: 0.02, seed: 0}\n"
        "trainingService: {platform: local}\n"
    )


# Journals


def make_journal(folder: Path) -> None:
    command_ = {
        **{"name": "search", "functions": {"evaluate": f"{HERE}:good"}, "algorithm": "evolution"},
        **{"trials": 8, "workers": 1, "folder": str(folder), "trial_timeout": None},
    }
    space = Space.from_json(SMALL | {"deep": layer("1", "2", "3")})
    run = Run.start(evolution(), space, path=folder / "run/journal.jsonl", command=command_)
    run_search(run, functions.fails_at_times, 8)
    run.note("a note", uid=3)
    run.tell(0, {"default": float("nan"), "curve": [0.5, None]})
    run.change_space(Space.from_json(SMALL | {"deep": layer("1", "3")}))
    run.ask()
    run.close()
    path = folder / "run/journal.jsonl"  # without checksums, as of earlier versions: else no change gets beyond those
    path.write_bytes(re.sub(rb', "crc32": "[0-9a-f]{8}"\}', b"}", path.read_bytes()))


def evolution() -> Evolution:
    return Evolution(candidate_pool_size=4, candidate_top_k=2, seed=5)


def show_journal(folder: Path) -> None:
    run, header = load(folder / "run/journal.jsonl")
    assert describe_run(run, header)
    json.dumps(summarize(run, header), allow_nan=False)


def resume_journal(folder: Path) -> None:
    run = Run.resume(evolution(), folder / "run/journal.jsonl")
    for proposal in run.ask(2):
        run.tell(proposal.uid, 1.0)
    run.close()


def elastic_journal(folder: Path) -> None:
    open_run(evolution(), Space.from_json(SMALL), folder / "run/journal.jsonl", {"digest": "x"}).close()


NETS = [("MobileNetV2BlockSpace", {"input_size": 8, "output_size": 4, "block_num": 1})]


def make_sanas(folder: Path) -> None:
    with SANAS(NETS, save_checkpoint=folder / "run", search_steps=5, seed=1) as sanas:
        for _ in range(4):
            sanas.run.tell(sanas.run.ask()[0].uid, 0.5)


def resume_sanas(folder: Path) -> None:
    SANAS(NETS, save_checkpoint=folder / "run", load_checkpoint=folder / "run", search_steps=5, seed=1).close()


# Networks, weights, checkpoints


def make_subnet(folder: Path) -> None:
    choices = {"op": {"_value": "p", "_idx": 0}}
    save_subnet(folder / "net", extract(build(), choices), choices, factory=build)


def make_weights(folder: Path) -> None:
    run = Run.start(RandomSearch(), Space.from_json({"op": layer("p", "q")}), path=folder / "run/journal.jsonl")
    run_search(run, functions.good, 2)
    run.close()
    torch.save(build().state_dict(), folder / "weights.pt")


ABOUT = {"epochs": 3, "seed": 0}


def make_checkpoint(folder: Path) -> None:
    net = build()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    content = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "scaler": {}, "mutator": None}
    content |= {"pruner": None, "base_lrs": [0.1], "rng": [b"generators"], "step": 1, "losses": [0.5], "loss_sum": 0.5}
    write_checkpoint(folder / "checkpoint.pt", {"about": ABOUT, **content})


def share_checkpoint(folder: Path) -> None:
    with shared_checkpoint(folder / "checkpoint.pt") as shared:
        shared.read()


def make_training(folder: Path) -> None:
    """Write the content of a half-way checkpoint as JSON: damage to it gets a checksum that fits."""
    train(folder / "checkpoint.pt")
    content = checkpoint.read(folder / "checkpoint.pt")
    content |= {"step": 1, "losses": content["losses"][:1]}
    (folder / "content.json").write_text(json.dumps(_encode(content)))


def train(path: Path) -> None:
    torch.manual_seed(0)
    config = TrainConfig(epochs=2, lr=0.1, momentum=0.9)
    batch = torch.ones(2, 2), torch.zeros(2, dtype=torch.long)
    train_supernet(build(), [batch], config, checkpoint=path, progress=False)


def go_on_training(folder: Path) -> None:
    try:
        content = _decode(json.loads((folder / "content.json").read_bytes()))
        checkpoint.write(folder / "checkpoint.pt", content)
    except (ValueError, TypeError, AttributeError, RecursionError):  # there is no such checkpoint
        return
    train(folder / "checkpoint.pt")


def _encode(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return {"tensor": value.tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {"dict": [[key, _encode(item)] for key, item in value.items()]}
    return [_encode(item) for item in value] if isinstance(value, (list, tuple)) else value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError, RuntimeError):
        if isinstance(value, dict) and "tensor" in value:
            return torch.tensor(value["tensor"], dtype=getattr(torch, value["dtype"]))
        if isinstance(value, dict) and "bytes" in value:
            return bytes.fromhex(value["bytes"])
        if isinstance(value, dict) and "dict" in value:
            return {key: _decode(item) for key, item in value["dict"]}
    return value


# Tables, files of others


def make_table(folder: Path) -> None:
    (folder / "space.json").write_text(json.dumps(SMALL))
    space = Space.from_json(SMALL)
    options = {"macs": {"in": [1, 2, 3], "op": [0.5, 7]}, "params": {"in": [0, 0, 1], "op": [4, 4]}}
    joint = {"macs": [(("in", "op"), [[0, 1], [2, 3], [4, 5]])]}
    CostTable(space, {"macs": 10, "params": 0}, options, {"model": "net"}, joint).save(folder / "costs.json")


def use_table(folder: Path) -> None:
    table = CostTable.load(folder / "costs.json")
    run = Run.start(RandomSearch(seed=1, constraints={"macs": [11, 20]}, cost_table=table), Space.from_json(SMALL))
    run.ask(3)
    assert CostTable.from_json(table.to_json()).digest == table.digest


def make_cfg(folder: Path) -> None:
    (folder / "cfg.yml").write_text("in:\n  chosen: ['a']\nop:\n  chosen:\n  - p\n")


def use_cfg(folder: Path) -> None:
    read_subnet(Space.from_json(SMALL).domains, load_mutable_cfg(folder / "cfg.yml"))  # type: ignore[arg-type]


def make_idx(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, shape in zip(data.FILES, ((6, 4, 4), (6,), (4, 4, 4), (4,)), strict=True):
        head = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes()
        content = head + rng.integers(0, 10, shape, dtype=np.uint8).tobytes()
        (folder / name).write_bytes(gzip.compress(content, mtime=0))


def make_experiments(folder: Path) -> None:
    (folder / "nni-experiments").mkdir()
    entry = {"id": "abc", "port": 8080, "startTime": 5, "status": "RUNNING", "logDir": str(folder), "pid": 1}
    (folder / "nni-experiments/.experiment").write_text(json.dumps({"abc": entry, "def": entry}))


JOURNAL_READERS: dict[Reader, tuple[type[BaseException], ...]] = {
    show_journal: (JournalError,),
    resume_journal: (JournalError,),
    elastic_journal: (ElasticError,),
    command("show", "run"): (),
    command("export", "run", "-o", "best"): (),
    command("resume", "run", "--evaluate", f"{HERE}:good", "--trials", "10", "--workers", "1"): (),
}
TARGETS: dict[str, Target] = {
    "space": Target(
        "space.json",
        make_space,
        {use_space: (SpaceError,), command("check", "space.json"): (), command(*SEARCH): ()},
        inputs=2000,
    ),
    "config": Target("config.yml", make_config, {command("check", "config.yml"): ()}),
    "journal": Target(
        "run/journal.jsonl",
        make_journal,
        JOURNAL_READERS,
        {command("show", "run", "--json"): (), command("show", "run", "--plot", "plot.png"): ()},
        inputs=2000,
    ),
    "journal of SANAS": Target(
        "run/journal.jsonl", make_sanas, {resume_sanas: (JournalError, SANASError, ConstraintError)}
    ),
    "arch.json": Target(
        "net/arch.json",
        make_subnet,
        {lambda folder: load_subnet(folder / "net", build): (SubnetError,)},
        {command("prune", "net", "-o", "pruned", "--ratio", "0.5"): ()},
    ),
    "weights of a subnet": Target(
        "net/weights.pt", make_subnet, {lambda folder: load_subnet(folder / "net", build): (SubnetError,)}, inputs=500
    ),
    "weights": Target(
        "weights.pt",
        make_weights,
        {command("export", "run", "-o", "best", "--model", f"{__name__}:build", "--weights", "weights.pt"): ()},
        inputs=500,
    ),
    "checkpoint": Target(
        "checkpoint.pt",
        make_checkpoint,
        {
            lambda folder: read_checkpoint(folder / "checkpoint.pt", ABOUT): (OneShotError,),
            share_checkpoint: (SharedCheckpointError,),
        },
        inputs=500,
    ),
    "content of a checkpoint": Target("content.json", make_training, {go_on_training: (OneShotError,)}, inputs=500),
    "cost table": Target(
        "costs.json",
        make_table,
        {
            use_table: (CostError, ConstraintError),
            command(*SEARCH, "--cost-table", "costs.json", "--constraint", "macs<=20"): (),
        },
    ),
    "mutable_cfg": Target("cfg.yml", make_cfg, {use_cfg: (ChoiceError,)}),
    "idx": Target(data.FILES[0], make_idx, {lambda folder: data.load(str(folder)): (SystemExit,)}, inputs=500),
    "list of experiments": Target(
        "nni-experiments/.experiment",
        make_experiments,
        {lambda folder: list_experiments(folder, patience=0.0): (ManagerError,)},
        inputs=500,
    ),
}


def seed_of(name: str, number: int) -> random.Random:
    """Return the generator of one input."""
    return random.Random(f"{name} {number}")
