"""Fault 4: nothing said that others can reach NNI's manager, and read its configuration with a password in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from nas_tuners import AnnealingTuner
from tests.nas_tuners.nas import Nas
from tests.spaces import layer

SECRET = "hunter2-is-secret"


def config(**machine: str) -> dict[str, Any]:
    remote = {"platform": "remote", "machineList": [{"host": "10.0.0.1", "user": "me", **machine}]}
    return {
        "searchSpace": {"fc": layer("a", "b")},
        "trialCommand": "python3 trial.py",
        "trialConcurrency": 1,
        "maxTrialNumber": 3,
        "nniManagerIp": "10.0.0.2",
        "tuner": {"className": "nas_tuners.RandomTuner", "codeDirectory": "."},
        "trainingService": remote if machine else {"platform": "local"},
    }


def check(nas: Nas, folder: Path, **machine: str) -> str:
    (folder / "key").touch()
    (folder / "config.yml").write_text(yaml.safe_dump(config(**machine)))
    return nas("check", "config.yml", cwd=folder)


def test_check_says_who_reaches_the_manager_and_who_reads_the_configuration(nas: Nas, tmp_path: Path) -> None:
    said = check(nas, tmp_path)
    assert "answer on every network of this machine, without a password" in said
    assert "the whole configuration stands in the command line of the tuner's process" in said
    assert "warning" not in said


def test_check_warns_of_a_password_and_does_not_print_it(nas: Nas, tmp_path: Path) -> None:
    said = check(nas, tmp_path, password=SECRET)
    assert (
        "nas: warning: trainingService.machineList[0].password stands there too, and in NNI's web page: use sshKeyFile"
        in said
    )
    assert SECRET not in said
    assert "warning" not in check(nas, tmp_path, sshKeyFile="key")


def test_what_we_write_of_an_experiment_holds_nothing_of_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal holds the tuner's arguments and the space, and nothing else of a configuration or a user."""
    (tmp_path / "checkpoint").mkdir()
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path / "checkpoint"))
    monkeypatch.setenv("MY_PASSWORD", SECRET)
    tuner = AnnealingTuner(seed=3)
    tuner.update_search_space({"fc": layer("a", "b")})
    tuner.generate_parameters(0)
    tuner._on_exit()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in written] == ["journal.jsonl"]
    assert SECRET not in written[0].read_text()
