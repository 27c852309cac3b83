"""A sibling of the fault of ``arch.json``: ``nas check`` imported and called what a config.yml names as its tuner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.nas_tuners.nas import Nas

TUNER = """
from pathlib import Path
from nas_tuners import SearchTuner
from nas_tuners.search import RandomSearch
Path("ran").touch()
class Own(SearchTuner):
    def __init__(self, seed):
        super().__init__(RandomSearch(seed))
"""


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nas:
    return Nas(capfd, monkeypatch)


def write(folder: Path, class_name: str, **arguments: Any) -> None:
    (folder / "own.py").write_text(TUNER)
    config = {
        "searchSpace": {"a": {"_type": "layer_choice", "_value": ["x", "y"]}},
        "trialCommand": "python3 trial.py",
        "trialConcurrency": 1,
        "maxTrialNumber": 2,
        "tuner": {"className": class_name, "codeDirectory": ".", "classArgs": arguments},
        "trainingService": {"platform": "local"},
    }
    (folder / "config.yml").write_text(yaml.safe_dump(config))


def test_a_tuner_of_another_is_not_imported_unless_the_caller_trusts_it(nas: Nas, tmp_path: Path) -> None:
    write(tmp_path, "own.Own", sed=1)
    said = nas("check", "config.yml", cwd=tmp_path)
    assert "nas check config.yml --trust-code" in said and not (tmp_path / "ran").exists()
    assert "did you mean 'seed'?" in nas("check", "config.yml", "--trust-code", cwd=tmp_path, code=1)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("class_name", "arguments"),
    [
        ("nas_tuners.lazy_names", {"package": "own"}),
        ("nas_tuners.cli.main", {"arguments": ["cost", "own:Own", "--input", "1", "-o", "x"]}),
        ("nas_tuners.Own", {}),
    ],
)
def test_of_ours_only_the_tuners_are_called(nas: Nas, tmp_path: Path, class_name: str, arguments: dict) -> None:
    write(tmp_path, class_name, **arguments)
    for more in ((), ("--trust-code",)):
        assert f"tuner.className is {class_name!r}, wanted one of" in nas(
            "check", "config.yml", *more, cwd=tmp_path, code=1
        )
    assert not (tmp_path / "ran").exists()
