"""The lock of a shared checkpoint, among real processes, killed ones too."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mutators import shared_checkpoint
from mutators.elastic.training.shared_checkpoint import SharedCheckpointError

HOLD = """
import os, sys, time
from mutators.elastic.training.shared_checkpoint import shared_checkpoint
with shared_checkpoint(sys.argv[1]) as shared:
    shared.write({"by": "the first"})
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    shared.write({"by": "the second"})
"""


def process(code: str, *words: object) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdin=pipe, stdout=pipe, text=True)


def answer(running: subprocess.Popen[str]) -> int:
    assert running.stdout is not None
    return int(running.stdout.readline())


def end(running: subprocess.Popen[str]) -> None:
    running.kill()
    running.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "supernet.pt"


def test_tensors_and_plain_data_go_round(path: Path) -> None:
    with shared_checkpoint(path) as shared:
        assert shared.read() is None
        shared.write({"model": {"w": torch.arange(3.0)}, "epoch": 2})
    with shared_checkpoint(path, timeout=0) as shared:
        content = shared.read()
    assert content is not None
    assert torch.equal(content["model"]["w"], torch.arange(3.0))
    assert content["epoch"] == 2


def test_no_turn_is_lost_among_processes(path: Path) -> None:
    children = []
    for _ in range(3):
        children.append(os.fork())
        if children[-1] == 0:  # the child never returns
            try:
                for _ in range(15):
                    with shared_checkpoint(path) as shared:
                        shared.write({"trials": (shared.read() or {"trials": 0})["trials"] + 1})
                os._exit(0)
            finally:
                os._exit(1)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    with shared_checkpoint(path) as shared:
        assert shared.read() == {"trials": 45}


@pytest.mark.slow
def test_it_is_held_alone_and_the_one_that_waits_says_for_whom(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = process(HOLD, path)
    try:
        pid = answer(first)
        said = rf"not free within 0.1 s: process {pid} holds it"
        with pytest.raises(SharedCheckpointError, match=said), shared_checkpoint(path, timeout=0.1):
            pytest.fail("two hold it")
        assert first.stdin is not None
        first.stdin.write("go on\n")
        first.stdin.flush()
        with caplog.at_level(logging.WARNING), shared_checkpoint(path) as shared:
            assert shared.read() == {"by": "the second"}
    finally:
        end(first)
    assert f"waiting for {path}, which process {pid} holds" in caplog.text


@pytest.mark.slow
def test_the_lock_of_a_killed_process_is_free_and_its_file_whole(path: Path) -> None:
    first = process(HOLD, path)
    pid = answer(first)
    os.kill(pid, signal.SIGKILL)
    with shared_checkpoint(path, timeout=20) as shared:
        assert shared.read() == {"by": "the first"}
    end(first)


def test_a_child_that_was_forked_meanwhile_keeps_no_lock(path: Path) -> None:
    """As a data loader's worker would, when its trial is killed."""
    reader, writer = os.pipe()
    begun, begins = os.pipe()
    with shared_checkpoint(path):
        child = os.fork()
        if child == 0:  # the child never returns
            os.write(begins, b".")
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        with pytest.raises(SharedCheckpointError, match="not free"), shared_checkpoint(path, timeout=0):
            pytest.fail("two hold it")
        os.read(begun, 1)
    with shared_checkpoint(path, timeout=0):
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
    for end in (writer, reader, begun, begins):
        os.close(end)
    assert os.waitpid(child, 0)[1] == 0


def test_what_raises_inside_leaves_the_lock_free_and_the_file_as_it_was(path: Path) -> None:
    with shared_checkpoint(path) as shared:
        shared.write({"epoch": 1})
    with pytest.raises(ZeroDivisionError), shared_checkpoint(path):
        raise ZeroDivisionError
    with shared_checkpoint(path, timeout=0) as shared:
        assert shared.read() == {"epoch": 1}


def test_after_the_block_it_cannot_be_used(path: Path) -> None:
    with shared_checkpoint(path) as shared:
        pass
    for use in (shared.read, lambda: shared.write({})):
        with pytest.raises(SharedCheckpointError, match="inside of the with block"):
            use()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04"])
def test_a_damaged_file_is_an_error(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with shared_checkpoint(path) as shared, pytest.raises(SharedCheckpointError, match="is no checkpoint"):
        shared.read()


def test_code_is_never_read(path: Path) -> None:
    path.parent.mkdir()
    torch.save({"model": torch.nn.Linear(1, 1)}, path)
    with shared_checkpoint(path) as shared, pytest.raises(SharedCheckpointError, match="is no checkpoint"):
        shared.read()


def test_a_place_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SharedCheckpointError, match="cannot open the lock"), shared_checkpoint(tmp_path / "file" / "x"):
        pytest.fail("there is no such folder")
    (tmp_path / "folder.pt").mkdir()
    with shared_checkpoint(tmp_path / "folder.pt") as shared:
        with pytest.raises(SharedCheckpointError, match="cannot read"):
            shared.read()
        with pytest.raises(SharedCheckpointError, match="cannot write"):
            shared.write({})
