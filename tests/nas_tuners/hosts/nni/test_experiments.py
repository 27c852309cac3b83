"""NNI's list of experiments, as it is read from outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas_tuners.hosts.nni.experiments import folder_of, list_experiments
from nas_tuners.hosts.nni.manager import ManagerError

ENTRY = {"startTime": 1, "logDir": "/there", "status": "RUNNING"}


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nnictl lists the experiments of a user whose home is new."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "nni-experiments").mkdir()
    return tmp_path / "nni-experiments" / ".experiment"


def test_without_a_list_there_are_no_experiments(listed: Path) -> None:
    assert list_experiments() == {}


@pytest.mark.parametrize("half", ["", '{"one": {"startT'])
def test_a_list_that_is_being_written_is_read_when_it_is_whole(
    listed: Path, monkeypatch: pytest.MonkeyPatch, half: str
) -> None:
    listed.write_text(half)
    whole = json.dumps({"one": ENTRY})
    # its writer goes on meanwhile
    monkeypatch.setattr("nas_tuners.hosts.nni.experiments.time.sleep", lambda _: listed.write_text(whole))
    assert list_experiments() == {"one": ENTRY}
    assert folder_of("latest") == Path("/there/one")


def test_a_list_that_stays_half_written_is_an_error_that_says_where_it_is(listed: Path) -> None:
    listed.write_text('{"one": ')
    with pytest.raises(ManagerError, match=rf"{listed}, is not JSON: .* Move it away"):
        list_experiments(patience=0)
