"""Once: ``ss-gen -o FILE`` deleted FILE before its command ran, were it the trial itself, and hand-written keys."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Space, SpaceError
from search_spaces.emitting import write_space
from tests.nas_tuners.nas import Nas
from tests.spaces import layer

TRIAL = "import os, shutil; shutil.copy('emitted.json', os.environ['NNI_GEN_SEARCH_SPACE'])"
COMMAND = ("--", sys.executable, "trial.py")
LR = {"_type": "choice", "_value": [0.1, 0.01]}


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nas:
    return Nas(capfd, monkeypatch)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "trial.py").write_text(TRIAL)
    emit(tmp_path, {"z": layer("a", "b"), "a": layer("x")})
    return tmp_path


def emit(folder: Path, space: dict[str, Any]) -> None:
    (folder / "emitted.json").write_text(json.dumps(space))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trial.py", TRIAL),
        ("weights.pt", b"PK\x03\x04\x00"),
        ("config.yml", "searchSpaceFile: out.json"),
        ("list.json", "[1, 2]"),
        ("broken.json", '{"fc": {"_type": "layer_choice", "_value": ["a"]}'),
    ],
)
def test_what_is_no_search_space_is_not_replaced(nas: Nas, code: Path, name: str, content: str | bytes) -> None:
    content = content.encode() if isinstance(content, str) else content
    (code / name).write_bytes(content)
    assert f"{name} is left as it is" in nas("ss-gen", "-o", name, *COMMAND, cwd=code, code=1)
    assert (code / name).read_bytes() == content


def test_a_folder_is_named_as_such(nas: Nas, code: Path) -> None:
    (code / "out").mkdir()
    assert "out is a folder" in nas("ss-gen", "-o", "out", *COMMAND, cwd=code, code=1)


def test_nothing_is_lost_if_the_trial_fails_or_the_disk_is_full(
    nas: Nas, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code / "out.json").write_text(json.dumps({"z": layer("a")}))
    nas("ss-gen", "-o", "out.json", "--", "false", cwd=code, code=1)
    assert Space.load(code / "out.json").keys == ("z",)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SpaceError, match="No space left on device"):
        write_space(code / "out.json", {"a": layer("x")})
    assert Space.load(code / "out.json").keys == ("z",)
    assert sorted(path.name for path in code.iterdir()) == ["emitted.json", "out.json", "trial.py"]


def test_hyper_parameters_that_were_added_by_hand_are_kept_and_the_rest_is_said(nas: Nas, code: Path) -> None:
    grid = {"_type": "loguniform", "_value": [1e-4, 0.1], "_levels": 9}
    by_hand = {"old": layer("p"), "lr": grid, "z": layer("a"), "batch": LR}
    (code / "out.json").write_text(json.dumps(by_hand))
    said = nas("ss-gen", "-o", "out.json", *COMMAND, cwd=code)
    assert "kept from before, as the trial does not declare it: lr, batch" in said
    assert "dropped, as no model has it any more: old" in said and "changed, as the trial says otherwise: z" in said
    want = {"z": layer("a", "b"), "a": layer("x"), "lr": grid, "batch": LR}
    assert list(json.loads((code / "out.json").read_text()).items()) == list(want.items())  # in the model's order
    assert "out.json: 4 choices" in said and "comments" not in said
    assert len(nas("ss-gen", "-o", "out.json", *COMMAND, cwd=code).splitlines()) == 2


def test_what_the_trial_declares_itself_counts_and_lost_comments_are_said(nas: Nas, code: Path) -> None:
    emit(code, {"lr": LR})
    (code / "out.json").write_text("{lr: {_type: 'uniform', _value: [0, 1]}} // mine")
    said = nas("ss-gen", "-o", "out.json", *COMMAND, cwd=code)
    assert "changed, as the trial says otherwise: lr" in said and "its comments are gone" in said
    assert Space.load(code / "out.json").to_json() == {"lr": LR}


def test_how_finely_a_range_is_searched_may_be_said_by_hand(nas: Nas, code: Path) -> None:
    declared = {"_type": "uniform", "_value": [0.0, 1.0]}
    emit(code, {"lr": declared, "z": layer("a")})
    (code / "out.json").write_text(json.dumps({"z": layer("a"), "lr": {**declared, "_levels": 5}}))
    assert "kept from before, as the trial does not declare it: lr" in nas(
        "ss-gen", "-o", "out.json", *COMMAND, cwd=code
    )
    assert Space.load(code / "out.json").radices == (5, 1)
    emit(code, {"lr": {**declared, "_levels": 7}})
    assert "changed, as the trial says otherwise: lr" in nas("ss-gen", "-o", "out.json", *COMMAND, cwd=code)
    assert Space.load(code / "out.json").radices == (7,)


def test_an_empty_file_may_be_written(nas: Nas, code: Path) -> None:
    (code / "out.json").touch()
    nas("ss-gen", "-o", "out.json", *COMMAND, cwd=code)
    assert Space.load(code / "out.json").keys == ("z", "a")
