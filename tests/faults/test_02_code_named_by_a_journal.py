"""Once: ``nas resume`` called what a journal's first line names, in the folder that it names, in as many processes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nas_tuners.hosts.nni import experiments
from nas_tuners.runs.journal import Journal, JournalError
from nas_tuners.runs.run import load
from search_spaces import Space
from search_spaces.trust import is_signed, key_file, signed
from tests.nas_tuners.nas import Nas

SPACE = {"a": {"_type": "layer_choice", "_value": list("xyz")}}
OWN = "from pathlib import Path\nPath('ran').touch()\ndef f(choices):\n    return choices['a']['_idx']\n"


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nas:
    return Nas(capfd, monkeypatch)


@pytest.fixture
def code(nas: Nas, tmp_path: Path) -> Path:
    """A folder with a run of ``nas search`` in ``run``, and of ``nas rank`` in ``ranking``; nothing has run since."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "space.json").write_text(json.dumps(SPACE))
    (folder / "own.py").write_text(OWN)
    nas("search", "space.json", "--evaluate", "own:f", "--trials", "1", "-o", "run", cwd=folder)
    nas("rank", "space.json", "--score", "own:f", "--retrain", "own:f", "-n", "3", "-o", "ranking", cwd=folder)
    (folder / "ran").unlink()
    return folder


def change(journal: Path, edit: Callable[[dict], object]) -> None:
    first, *rest = journal.read_text().splitlines(keepends=True)
    header = json.loads(first)
    edit(header)
    journal.write_text(json.dumps(header) + "\n" + "".join(rest))


CHANGES: dict[str, Callable[[dict], object]] = {
    "the function": lambda h: h["command"]["functions"].update(evaluate="subprocess:check_output"),
    "the folder": lambda h: h["command"].update(folder=str(Path(h["command"]["folder"]).parent)),
    "the workers": lambda h: h["command"].update(workers=1000),
    "the space": lambda h: h["space"]["a"].update(_value=["x", "y", "touch ran"]),
    "an argument": lambda h: h["search"]["arguments"].update(seed=3),
    "no signature": lambda h: h.pop("signature"),
    "a number as signature": lambda h: h.update(signature=3),
    "a text as signature": lambda h: h.update(signature="\u00e9\ud800"),
    "another signature": lambda h: h.update(signature="0" * 64),
    "more in it": lambda h: h.update(more=1),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_header_that_was_changed_is_refused_with_the_line_to_type(nas: Nas, code: Path, what: str) -> None:
    change(code / "run" / "journal.jsonl", CHANGES[what])
    before = (code / "run" / "journal.jsonl").read_text()
    said = nas("resume", "run", "--trials", "3", cwd=code, code=1)
    assert "  nas resume run --trials 3 --trust-code\n" in said
    assert "  nas resume run --trials 3 --evaluate MODULE:FUNCTION " in said
    assert not (code / "ran").exists() and (code / "run" / "journal.jsonl").read_text() == before
    if what != "the space":  # else it would show results of architectures that never ran
        load(code / "run" / "journal.jsonl")  # to look at it is harmless


def test_a_run_that_was_begun_here_resumes_without_more(nas: Nas, code: Path, tmp_path: Path) -> None:
    shutil.copytree(code / "run", tmp_path / "moved")
    assert "of 2 trials" in nas("resume", str(tmp_path / "moved"), "--trials", "2", cwd=tmp_path)
    assert (code / "ran").exists()  # where it was begun, wherever the journal is
    assert "tau" in nas("resume", "ranking", cwd=code)


def test_a_run_of_another_user_is_refused(
    nas: Nas, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_CONFIG_HOME", str(tmp_path / "theirs"))
        assert "--trust-code" in nas("resume", "run", "--trials", "2", cwd=code, code=1)
        assert "--score MODULE:FUNCTION --retrain MODULE:FUNCTION" in nas("resume", "ranking", cwd=code, code=1)
        assert not (tmp_path / "theirs").exists()  # to look makes no key
        assert "of 2 trials" in nas("resume", "run", "--trials", "2", "--trust-code", cwd=tmp_path / "code")
    assert (code / "ran").exists()


def test_the_caller_names_the_function_of_a_foreign_run(nas: Nas, code: Path, tmp_path: Path) -> None:
    change(code / "run" / "journal.jsonl", CHANGES["the function"])
    (tmp_path / "mine.py").write_text("def g(choices):\n    return 7\n")
    sys.modules.pop("mine", None)
    said = nas("resume", "code/run", "--trials", "2", "--evaluate", "mine:g", cwd=tmp_path)
    assert "best 7" in said and "goes on with other functions: 'mine:g', begun with 'subprocess:check_output'" in said
    assert not (code / "ran").exists()
    assert "wanted --score and --retrain" in nas("resume", "ranking", "--evaluate", "own:f", cwd=code, code=1)
    assert "wanted --score and --retrain" in nas("resume", "ranking", "--score", "own:f", cwd=code, code=1)


def test_a_folder_that_is_gone_is_not_replaced_by_the_current_one(nas: Nas, code: Path, tmp_path: Path) -> None:
    """Else whoever sends the journal of a run of mine along with an own.py has that run."""
    moved = tmp_path / "moved"
    code.rename(moved)
    said = nas("resume", "run", "--trials", "2", cwd=moved, code=1)
    assert "that folder is gone" in said and "--evaluate MODULE:FUNCTION" in said and not (moved / "ran").exists()
    assert "of 2 trials" in nas("resume", "run", "--trials", "2", "--evaluate", "own:f", cwd=moved)


def test_workers_of_a_file_are_bounded(nas: Nas, code: Path) -> None:
    journal = code / "run" / "journal.jsonl"
    change(journal, lambda h: h["command"].update(workers=10**6))
    assert "--workers is 1000000, wanted at most 1024" in nas("resume", "run", "--trust-code", cwd=code, code=1)
    assert "--workers is 2000, wanted at most 1024" in nas(
        "search", "space.json", "--evaluate", "own:f", "--workers", "2000", "-o", "new", cwd=code, code=1
    )


def test_a_cost_table_that_is_a_device_is_not_read(nas: Nas, code: Path) -> None:
    change(
        code / "run" / "journal.jsonl",
        lambda h: h["search"]["arguments"].update(cost_table="/dev/zero", constraints={"macs": [0, 1]}),
    )
    assert "/dev/zero: it is no ordinary file" in nas("resume", "run", "--evaluate", "own:f", cwd=code, code=1)


def test_the_advice_for_a_script_is_not_the_files(nas: Nas, code: Path) -> None:
    change(code / "run" / "journal.jsonl", lambda h: h.update(command={"name": "OFA.search", "resume": "rm -rf ~"}))
    said = nas("resume", "run", cwd=code, code=1)
    assert "run the script that calls OFA.search again" in said and "rm" not in said


class TestKey:
    def test_it_is_the_users_alone_and_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        header = signed({"a": [1, 2.5, "\ud800"]})
        path = key_file()
        assert path.is_relative_to(tmp_path) and path.stat().st_mode & 0o777 == 0o600 and len(path.read_bytes()) == 32
        assert os.listdir(path.parent) == [path.name] and path.parent.stat().st_mode & 0o777 == 0o700
        assert is_signed(json.loads(json.dumps(header))) and signed({"a": [1, 2.5, "\ud800"]}) == header
        assert not is_signed({**header, "a": [1, 2.5]})

    @pytest.mark.parametrize("damage", ["open to others", "a link", "cut short"])
    def test_a_key_that_others_may_have_made_signs_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
    ) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        header = signed({"a": 1})
        path = key_file()
        if damage == "open to others":
            path.chmod(0o644)
        elif damage == "a link":
            path.rename(tmp_path / "key")
            path.symlink_to(tmp_path / "key")
        else:
            path.write_bytes(path.read_bytes()[:31])
        with pytest.warns(RuntimeWarning, match="no signature counts"):
            assert not is_signed(header)
        with pytest.warns(RuntimeWarning, match="the journal is not signed"):
            assert "signature" not in signed({"a": 1})

    def test_a_relative_folder_does_not_count(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As the XDG specification says: else a key could come with the files."""
        monkeypatch.setenv("XDG_CONFIG_HOME", "config")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert key_file().is_relative_to(tmp_path / ".config")


class TestExperiments:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas: Nas) -> Path:
        """An experiment in NNI's list, begun here; to resume it would be to call nnictl, which ends the test."""
        monkeypatch.setenv("HOME", str(tmp_path))
        folder = tmp_path / "nni-experiments" / "abc"
        (folder / "checkpoint").mkdir(parents=True)
        self.list(tmp_path, {"abc": {"logDir": str(tmp_path / "nni-experiments"), "port": 8080, "startTime": 1}})
        header = {
            "digest": Space.from_json(SPACE).digest,
            "space": SPACE,
            "search": {"name": "RandomSearch", "module": "m", "arguments": {}},
            "optimize_mode": "maximize",
            "checkpoint": str(folder / "checkpoint"),
        }
        Journal(folder / "checkpoint" / "journal.jsonl", header).close()
        monkeypatch.setattr("nas_tuners.commands.resume.resume_experiment", lambda *_: 8080)
        return folder

    @staticmethod
    def list(home: Path, entries: dict) -> None:
        (home / "nni-experiments" / ".experiment").write_text(json.dumps(entries))

    def test_an_experiment_that_was_begun_here_is_resumed(self, nas: Nas, folder: Path, tmp_path: Path) -> None:
        for run in ("abc", "latest", str(folder)):
            assert "experiment abc goes on" in nas("resume", run, cwd=tmp_path)

    def test_one_of_another_is_refused_with_the_line_to_type(self, nas: Nas, folder: Path, tmp_path: Path) -> None:
        journal = folder / "checkpoint" / "journal.jsonl"
        signature = journal.read_text()
        change(journal, lambda h: h.pop("signature"))
        assert "  nas resume abc --port 81 --trust-code\n" in nas("resume", "abc", "--port", "81", cwd=tmp_path, code=1)
        journal.write_text(signature)
        folder.rename(folder.with_name("xyz"))  # whose database may be another
        self.list(tmp_path, {"xyz": {"logDir": str(folder.parent)}})
        assert "--trust-code" in nas("resume", "xyz", cwd=tmp_path, code=1)
        (folder.with_name("xyz") / "checkpoint" / "journal.jsonl").unlink()
        assert "--trust-code" in nas("resume", "xyz", cwd=tmp_path, code=1)
        assert "goes on" in nas("resume", "xyz", "--trust-code", cwd=tmp_path)

    def test_a_copy_does_not_stand_for_the_experiment(self, nas: Nas, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path / "sent" / "abc")
        assert "it is a copy" in nas("resume", "sent/abc", cwd=tmp_path, code=1)

    def test_names_and_ports_in_nnis_list_are_checked(self, folder: Path, tmp_path: Path) -> None:
        wrong = {
            "--all": {},
            "../x": {},
            "a b": {},
            "p": {"port": "80@evil"},
            "q": {"port": 10**6},
            "s": {"startTime": "x"},
        }
        self.list(tmp_path, {**wrong, "abc": {"port": 1}})
        assert list(experiments.list_experiments()) == ["abc"]
        self.list(tmp_path, [])  # type: ignore[arg-type]
        assert experiments.list_experiments() == {}


def test_no_header_is_too_strange(nas: Nas, code: Path) -> None:
    """Fault 39 has the others: here is what NNI's part reads."""
    change(code / "run" / "journal.jsonl", lambda h: h.update(search=[]))
    with pytest.raises(JournalError, match="search is"):
        load(code / "run" / "journal.jsonl")
