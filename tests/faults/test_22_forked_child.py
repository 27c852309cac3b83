"""Fault 22: a child that was forked from a search and outlives it holds neither its journal nor its workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import Run
from nas_tuners.search import RandomSearch
from search_spaces import Space
from tests.spaces import SPACES

SPACE = Space.from_json(SPACES["20 x 4"])


def test_a_journal_is_free_when_its_search_is_killed_though_a_child_lives(tmp_path: Path) -> None:
    path, (read, write) = tmp_path / "journal.jsonl", os.pipe()
    search = os.fork()
    if search == 0:
        run = Run.start(RandomSearch(seed=1), SPACE, path=path)
        run.ask()
        child = os.fork()
        if child == 0:
            os.write(write, b"%d" % os.getpid())
            signal.pause()
        os.waitpid(child, 0)
        os._exit(1)
    child = int(os.read(read, 20))
    try:
        with pytest.raises(JournalError, match="in use by another process"):
            Run.resume(RandomSearch(seed=1), path)
        os.kill(search, signal.SIGKILL)
        os.waitpid(search, 0)
        run = Run.resume(RandomSearch(seed=1), path)
        assert len(run.search.pending) == 1
        run.close()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_child_writes_nothing_into_the_journal_of_its_parent(tmp_path: Path) -> None:
    """Also where it opens a file of its own, which gets the number of the parent's."""
    run = Run.start(RandomSearch(seed=1), SPACE, path=tmp_path / "journal.jsonl")
    child = os.fork()
    if child == 0:
        try:
            with (tmp_path / "own").open("wb"):
                run.ask()
        except JournalError as error:
            os._exit(0 if "is closed" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (tmp_path / "own").read_bytes() == b""
    run.ask()  # the parent's is open
    run.close()
