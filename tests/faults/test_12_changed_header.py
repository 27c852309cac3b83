"""Fault 12: a journal whose space was changed by hand credits no architecture that never ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas_tuners.cli import main
from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import Run, load
from nas_tuners.search import RandomSearch
from search_spaces import Space
from tests.spaces import layer

SPACE = {"conv": layer("3x3", "5x5"), "skip": layer("yes", "no")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.jsonl"
    run = Run.start(RandomSearch(), Space.from_json(SPACE), path=path)
    for proposal in run.ask(2):
        run.tell(proposal.uid, float(proposal.uid))
    run.change_space(Space.from_json({**SPACE, "skip": layer("yes", "no", "maybe")}))
    run.close()
    return path


def rewrite(path: Path, line: int, change: Any) -> None:
    lines = path.read_text().splitlines()
    event = json.loads(lines[line])
    event.pop("crc32", None)  # of lines that have one, which finds the change as well
    change(event["space"])
    lines[line] = json.dumps(event)
    path.write_text("\n".join(lines) + "\n")


CHANGES = {
    "renamed": lambda space: space["conv"]["_value"].__setitem__(1, "7x7"),
    "swapped": lambda space: space["conv"]["_value"].reverse(),
    "added": lambda space: space.__setitem__("new", layer("x")),
    "removed": lambda space: space.pop("skip"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("line", [0, -1], ids=["header", "change of space"])
def test_fault_12_a_changed_space_is_refused_by_all(
    path: Path, change: str, line: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(path, line, CHANGES[change])
    before = path.read_bytes()
    for read in (lambda: load(path), lambda: Run.resume(RandomSearch(), path)):
        with pytest.raises(JournalError, match="the space was changed after the run began"):
            read()
    assert main(["show", str(path)]) == 1
    said = capsys.readouterr().err
    assert "Restore the file from a copy" in said and len(said.strip().splitlines()) <= 3
    assert path.read_bytes() == before


def test_fault_12_an_untouched_journal_is_read(path: Path) -> None:
    run, _ = load(path)
    assert run.search.counts.told == 2 and run.space.radices == (2, 3)
