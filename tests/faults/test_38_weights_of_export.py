"""Once: ``nas export`` ended in a traceback for weights that are no state dict, and for a model with a SyntaxError.

And it cut off torch's warning that loading such a file may run code, right after "will likely succeed".
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mutators import SubnetError, load_subnet, save_subnet
from mutators.elastic import DistillConfig, ElasticError
from mutators.elastic.training.distill import make_teacher
from mutators.weights import read_state
from nas_tuners import Run
from nas_tuners.search import RandomSearch
from search_spaces import Space
from tests.nas_tuners.nas import Nas

STATE = nn.Linear(2, 2).state_dict()
NO_STATES: list[tuple[str, Any, str]] = [
    ("tensor", torch.ones(2), "it holds a Tensor."),
    ("list", [torch.ones(2)], "it holds a list."),
    ("none", None, "it holds None."),
    ("number", 3, "it holds a int."),
    ("checkpoint", {"state_dict": dict(STATE), "epoch": 3}, "its 'state_dict' is of type dict, and perhaps its"),
    ("epoch", {**STATE, "epoch": 3}, "its 'epoch' is of type int"),
    ("keys", {1: torch.ones(2)}, "its keys are [1], wanted names"),
    (
        "model",
        nn.Linear(2, 2),
        "it holds a torch.nn.modules.linear.Linear, and loading that could run code",
    ),
]


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nas:
    return Nas(capfd, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with a result, whose model is ``own:build``."""
    run = Run.start(
        RandomSearch(),
        Space.from_json({"fc": {"_type": "layer_choice", "_value": ["0", "1"]}}),
        path=tmp_path / "journal.jsonl",
    )
    run.tell(run.ask(1)[0].uid, 1.0)
    run.close()
    (tmp_path / "own.py").write_text(
        "from torch import nn\nfrom mutators import LayerChoice\n\n"
        "def build() -> nn.Module:\n"
        "    return nn.Sequential(LayerChoice([nn.Linear(4, 4), nn.Linear(4, 4)], key='fc'))\n"
    )
    return tmp_path


@pytest.mark.parametrize(("content", "said"), [case[1:] for case in NO_STATES], ids=[case[0] for case in NO_STATES])
def test_weights_that_are_no_state_dict_are_named(nas: Nas, folder: Path, content: Any, said: str) -> None:
    torch.save(content, folder / "weights.pt")
    printed = nas("export", ".", "-o", "best", "--model", "own:build", "--weights", "weights.pt", cwd=folder, code=1)
    assert f"nas: weights.pt is not a state dict of tensors: {said}" in printed
    assert "torch.save(model.state_dict(), FILE)" in printed and len(printed.splitlines()) == 1
    assert not (folder / "best").exists()
    with pytest.raises(ElasticError, match="not a state dict of tensors"):  # its sibling: a teacher's weights
        make_teacher(
            nn.Linear(2, 2),
            DistillConfig(
                lambda_logits=1.0, teacher_model=nn.Linear(2, 2), teacher_model_path=str(folder / "weights.pt")
            ),
        )


def test_no_message_advises_to_trust_the_file(tmp_path: Path) -> None:
    """The half of torch's advice that was shown said how to load it all the same."""
    torch.save(nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="could run code that the file brings, so it is not loaded") as caught:
        read_state(tmp_path / "model.pt", ValueError)
    assert "likely succeed" not in str(caught.value) and "weights_only" not in str(caught.value)
    save_subnet(tmp_path / "net", nn.Linear(2, 2), {})
    content = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "net" / "weights.pt").write_bytes(content)
    arch = (tmp_path / "net" / "arch.json").read_text()
    fields = {**json.loads(arch), "weights_sha256": hashlib.sha256(content).hexdigest()}
    (tmp_path / "net" / "arch.json").write_text(json.dumps(fields))
    with pytest.raises(SubnetError, match="could run code that the file brings, so it is not loaded") as caught:
        load_subnet(tmp_path / "net", nn.Linear(2, 2))
    assert "likely succeed" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x02}q\x00.", b"PK\x03\x04 torn"])
def test_what_is_no_file_of_torch_is_said_in_a_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pt is not a state dict of tensors: it is damaged") as caught:
        read_state(tmp_path / "weights.pt", ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_torchscript_file_is_refused_without_the_advice(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"not from torch\.save") as caught:
        read_state(tmp_path / "weights.pt", ValueError)
    assert "likely succeed" not in str(caught.value)


@pytest.mark.parametrize(
    "source", ["def build( -> :\n", "def build():\nreturn 1\n", "x = '\n", "\0", "import no_such_module\n", "1 / 0\n"]
)
def test_a_model_that_cannot_be_imported_is_a_message(nas: Nas, folder: Path, source: str) -> None:
    (folder / "own.py").write_text(source)
    for words in (("export", ".", "-o", "best"), ("prune", "best", "-o", "pruned", "--ratio", "0.5")):
        said = nas(*words, "--model", "own:build", cwd=folder, code=1)
        if words[0] == "export":
            assert said.startswith("nas: own:build cannot be imported: ") and len(said.splitlines()) == 1
            assert "importlib" not in said
    for command in ("cost", "latency"):
        said = nas(command, "own:build", "--input", "4", "-o", "x.json", cwd=folder, code=1)
        assert said.startswith("nas: own:build cannot be imported: ")
    assert not (folder / "best").exists()
