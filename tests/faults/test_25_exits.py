"""Once: ``sys.exit`` at the import of a user's module ended ``nas`` without a message, and with code 0 as a success.

Whatever of a user's code runs in a command, an exit of it is an error that names it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from torch import nn

from mutators import save_subnet
from nas_tuners import Run
from nas_tuners.search import RandomSearch
from search_spaces import Space
from tests.nas_tuners.nas import Nas

AT_IMPORT = "import sys\nsys.exit({code})\n"
IN_A_CALL = """
import sys
from torch import nn
from mutators import LayerChoice

def build(**arguments: int) -> nn.Module:
    sys.exit({code})

def function(it) -> float:
    sys.exit({code})

class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = LayerChoice([nn.Linear(4, 4), nn.Identity()], key="fc")

    def forward(self, x):
        sys.exit({code})

class Lazy(Net):
    def state_dict(self, *args, **kwargs):
        sys.exit({code})

class Tuner:
    def __init__(self):
        sys.exit({code})
"""
PRUNE = ("prune", "net", "-o", "pruned", "--ratio", "0.5")
COMMANDS = {
    "cost": ("cost", "own:build", "--input", "4", "-o", "x.json"),
    "latency": ("latency", "own:build", "--input", "4", "-o", "x.json"),
    "export": ("export", ".", "-o", "best", "--model", "own:build"),
    "search": ("search", "space.json", "--evaluate", "own:function", "--trials", "2", "-o", "run"),
    "rank": ("rank", "space.json", "--score", "own:function", "--retrain", "own:function", "-n", "3", "-o", "run"),
    "prune": (*PRUNE, "--model", "own:build"),
    "prune --skip": (*PRUNE, "--skip", "own:function", "--trust-code"),
    "prune --train": (*PRUNE, "--train", "own:function", "--trust-code"),
    "prune --evaluate": (
        "prune",
        "net",
        "-o",
        "pruned",
        "--ratio",
        "0.5",
        "--evaluate",
        "own:function",
        "--trust-code",
    ),
    "check": ("check", "config.yml", "--trust-code"),
}
IN_FORWARD = {
    "cost": ("cost", "own:Net", "--input", "4", "-o", "x.json"),
    "latency": ("latency", "own:Net", "--input", "4", "-o", "x.json"),
    "export --pt2": ("export", ".", "-o", "best", "--model", "own:Net", "--pt2", "--input", "4"),
    "export": ("export", ".", "-o", "best", "--model", "own:Lazy"),
}


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nas:
    return Nas(capfd, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    space = {"fc": {"_type": "layer_choice", "_value": ["0", "1"]}}
    run = Run.start(RandomSearch(), Space.from_json(space), path=tmp_path / "journal.jsonl")
    run.tell(run.ask(1)[0].uid, 1.0)
    run.close()
    (tmp_path / "space.json").write_text(json.dumps(space))
    config = {
        "searchSpace": space,
        "trialCommand": "python3 trial.py",
        "trialConcurrency": 1,
        "maxTrialNumber": 2,
        "tuner": {"className": "own.Tuner", "codeDirectory": "."},
        "trainingService": {"platform": "local"},
    }
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    save_subnet(
        tmp_path / "net",
        nn.Linear(4, 4),
        {},
        factory="torch.nn:Linear",
        factory_args=dict.fromkeys(["in_features", "out_features"], 4),
    )
    return tmp_path


@pytest.mark.sampled(12)
@pytest.mark.parametrize("code", ["0", "", "3", "'bye'"])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_exit_at_import_is_an_error_that_names_the_module(nas: Nas, folder: Path, command: str, code: str) -> None:
    (folder / "own.py").write_text(AT_IMPORT.format(code=code))
    said = nas(*COMMANDS[command], cwd=folder, code=1)
    assert "cannot be imported: SystemExit" in said and "own" in said and "own.py:2" in said
    assert not (folder / "best").exists() and not (folder / "x.json").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_an_exit_in_a_call_is_an_error_that_names_the_place(nas: Nas, folder: Path, command: str) -> None:
    (folder / "own.py").write_text(IN_A_CALL.format(code=0))
    said = nas(*COMMANDS[command], cwd=folder, code=1)
    assert "SystemExit: 0 (own.py:" in said


@pytest.mark.parametrize("command", IN_FORWARD)
def test_an_exit_deep_inside_is_an_error_that_names_the_place(nas: Nas, folder: Path, command: str) -> None:
    (folder / "own.py").write_text(IN_A_CALL.format(code=0))
    said = nas(*IN_FORWARD[command], cwd=folder, code=1)
    assert "SystemExit: 0" in said
