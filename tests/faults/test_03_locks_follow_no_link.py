"""Once: the lock of a shared checkpoint followed a symbolic link, and emptied what that leads to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mutators.elastic.training.shared_checkpoint import SharedCheckpointError, shared_checkpoint
from nas_tuners.runs.journal import Journal, JournalError
from search_spaces.files import create_private, open_ordinary, write_atomically
from search_spaces.trust import key_file, signed

PRECIOUS = b"precious"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    (tmp_path / "precious").write_bytes(PRECIOUS)
    return tmp_path / "precious"


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing"])
def test_a_checkpoints_lock_that_is_a_link(tmp_path: Path, precious: Path, there: bool) -> None:
    target = precious if there else tmp_path / "new"
    (tmp_path / "s.pt.lock").symlink_to(target)
    with pytest.raises(SharedCheckpointError, match="it is a link"), shared_checkpoint(tmp_path / "s.pt"):
        pass
    assert precious.read_bytes() == PRECIOUS and not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [PRECIOUS, b"1" * 21, b"12\n34"])
def test_a_checkpoints_lock_that_is_another_file(tmp_path: Path, content: bytes) -> None:
    """A hard link, or a user's own file of that name."""
    (tmp_path / "s.pt.lock").write_bytes(content)
    with pytest.raises(SharedCheckpointError, match="no lock of ours"), shared_checkpoint(tmp_path / "s.pt"):
        pass
    assert (tmp_path / "s.pt.lock").read_bytes() == content
    (tmp_path / "s.pt.lock").write_bytes(b"4321")
    with shared_checkpoint(tmp_path / "s.pt") as shared:  # of a process that is gone
        shared.write({"a": 1})


def test_a_checkpoints_lock_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "s.pt.lock")
    with pytest.raises(SharedCheckpointError, match="it is no ordinary file"), shared_checkpoint(tmp_path / "s.pt"):
        pass


def test_a_journal_that_is_a_link(tmp_path: Path, precious: Path) -> None:
    """A journal is its own lock, and loses a last line that was cut short."""
    for target in (precious, tmp_path / "new"):
        link = tmp_path / f"{target.name}.jsonl"
        link.symlink_to(target)
        for header in (None, {"a": 1}):
            with pytest.raises(JournalError, match="it is a link"):
                Journal(link, header)
    assert precious.read_bytes() == PRECIOUS and not (tmp_path / "new").exists()


def test_files_are_written_beside_a_link_and_not_through_it(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "link").symlink_to(precious)
    write_atomically(tmp_path / "link", b"new")
    assert precious.read_bytes() == PRECIOUS and (tmp_path / "link").read_bytes() == b"new"
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    create_private(tmp_path / "dangling", b"key")
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(OSError, match="it is a link"):
        open_ordinary(tmp_path / "dangling", os.O_RDWR | os.O_CREAT)


def test_two_who_make_a_key_at_once_have_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second finds the first one's after it has looked for one."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    first = signed({"a": 1})
    with monkeypatch.context() as before:
        before.setattr(os.path, "lexists", lambda _: False)
        assert signed({"a": 1}) == first
    assert os.listdir(key_file().parent) == ["journal.key"]
