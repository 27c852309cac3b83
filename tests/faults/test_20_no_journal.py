"""Fault 20: a file that is no journal, or no file of ours at all, is left as it was, byte for byte."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import Run
from nas_tuners.sanas import SANAS
from nas_tuners.search import RandomSearch
from search_spaces import Space
from search_spaces.files import write_atomically
from tests.nas_tuners.nas import Nas
from tests.spaces import SPACES

SPACE = Space.from_json(SPACES["20 x 4"])
HERE = "tests.nas_tuners.functions"
CONTENTS = {
    "JSON without an end of line": b'{"precious": 1}',
    "JSON": b'{"precious": 1}\n',
    "text": b"my notes",
    "weights": b"PK\x03\x04" + bytes(range(256)).replace(b"\n", b""),
    "binary with ends of line": os.urandom(64) + b"\n\n",
    "another journal's torn header": b'{"event": "start", "for',
}
WRITERS: dict[str, Callable[[Path], object]] = {
    "start": lambda path: Run.start(RandomSearch(), SPACE, path=path),
    "resume": lambda path: Run.resume(RandomSearch(), path),
}


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nas:
    return Nas(capfd, monkeypatch)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("how", WRITERS)
def test_a_run_leaves_what_is_no_journal(how: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"w\.pt, line 1: .* not one of ours, and is left as it is"):
        WRITERS[how](path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_commands_and_sanas_leave_what_is_no_journal(content: bytes, tmp_path: Path, nas: Nas) -> None:
    path = tmp_path / "run" / "journal.jsonl"
    path.parent.mkdir()
    path.write_bytes(content)
    (tmp_path / "space.json").write_text(json.dumps(SPACES["20 x 4"]))
    search = ("search", "space.json", "--evaluate", f"{HERE}:good", "--trials", "3", "-o", "run")
    for words in (search, ("resume", "run"), ("show", "run"), ("export", "run", "-o", "best")):
        assert "is left as it is" in nas(*words, cwd=tmp_path, code=1)
    for option in ("save_checkpoint", "load_checkpoint"):
        with pytest.raises(JournalError, match="left as it is"):
            SANAS(
                [("MobileNetV2BlockSpace", {"input_size": 8, "output_size": 4, "block_num": 1})],
                **{option: path.parent},
            )
    assert path.read_bytes() == content


def test_a_journal_that_was_begun_meanwhile_is_left(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Run.start(RandomSearch(seed=3), SPACE, path=path).close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="exists: resume it"):
        Run.start(RandomSearch(seed=4), SPACE, path=path)
    assert path.read_bytes() == before
    Run.resume(RandomSearch(seed=3), path).close()  # and its lock is free


def test_a_last_line_that_lacks_its_end_alone_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    run = Run.start(RandomSearch(seed=3), SPACE, path=path)
    run.tell(run.ask()[0].uid, 0.5)
    run.close()
    before = path.read_bytes()
    path.write_bytes(before.removesuffix(b"\n"))
    again = Run.resume(RandomSearch(seed=3), path)
    assert again.search.counts.told == 1
    assert path.read_bytes() == before
    again.ask()
    again.close()
    assert Run.resume(RandomSearch(seed=3), path).search.counts.asked == 2


def test_a_journal_whose_lines_have_no_ends_is_left(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    run = Run.start(RandomSearch(seed=3), SPACE, path=path)
    run.ask()
    run.close()
    path.write_bytes(before := path.read_bytes().replace(b"\n", b" "))
    for how in WRITERS.values():
        with pytest.raises(JournalError, match="its lines have no ends"):
            how(path)
    assert path.read_bytes() == before


def test_what_is_no_file_is_no_journal_and_nothing_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        for how in WRITERS.values():
            with pytest.raises(JournalError, match="is not a file"):
                how(path)


@pytest.fixture
def folder(tmp_path: Path, nas: Nas) -> Path:
    """A folder with a finished search."""
    (tmp_path / "space.json").write_text(json.dumps(SPACES["20 x 4"]))
    nas("search", "space.json", "--evaluate", f"{HERE}:good", "--trials", "3", "-o", "run", cwd=tmp_path)
    (tmp_path / "net.py").write_text(
        "from torch import nn\nfrom mutators import LayerChoice\n\n\n"
        "def build() -> nn.Module:\n"
        "    return nn.Sequential(LayerChoice([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3)], key='a'))\n"
    )
    return tmp_path


@pytest.mark.slow
def test_a_picture_replaces_pictures_only(folder: Path, nas: Nas) -> None:
    for name in ("plot.png", "plot.svg", "plot.pdf"):
        (folder / name).write_bytes(b"precious")
        assert "it is left as it is" in nas("show", "run", "--plot", name, cwd=folder, code=1)
        assert (folder / name).read_bytes() == b"precious"
        (folder / name).unlink()
        nas("show", "run", "--plot", name, cwd=folder)
        nas("show", "run", "--plot", name, cwd=folder)


def test_a_cost_table_replaces_cost_tables_only(folder: Path, nas: Nas) -> None:
    script = (folder / "net.py").read_bytes()
    for command in ("cost", "latency"):
        said = nas(command, "net:build", "--input", "3,8,8", "-o", "net.py", cwd=folder, code=1)
        assert "net.py exists and is no cost table: it is left as it is" in said
    assert (folder / "net.py").read_bytes() == script
    for _ in range(2):
        nas("cost", "net:build", "--input", "3,8,8", "-o", "costs.json", cwd=folder)


@pytest.mark.parametrize("name", ["choices.json", "choices.yml", "weights.pt", "arch.json"])
def test_an_export_replaces_exports_only(folder: Path, nas: Nas, name: str) -> None:
    """Such as the weights of the supernet themselves, with ``-o .``."""
    (folder / name).write_bytes(b"precious")
    words = ("export", "run", "-o", ".", "--model", "net:build", "--weights", "weights.pt")
    assert f"{name} exists and is no file of nas export" in nas(*words, cwd=folder, code=1)
    assert (folder / name).read_bytes() == b"precious"
    assert len(list(folder.glob("choices*"))) == int("choices" in name)
    if "choices" in name:
        for _ in range(2):
            nas("export", "run", "-o", "best", cwd=folder)


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    """As root, /dev/null became a file."""
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, b"table")
    assert os.read(reader, 9) == b"table"
    assert pipe.is_fifo()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path, b"table")
    os.close(reader)
