"""Some ten thousand damaged files through all that reads them: nothing but documented errors, and nothing is lost.

One input again: ``python -m tests.fuzz.test_fuzz NAME NUMBER``, as a failure says.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fuzz.mutations import mutate
from tests.fuzz.targets import TARGETS, Target, seed_of
from tests.sampling import sampled

SECONDS = 60.0  # of all targets together, in a sample
HANGS = 30  # seconds that no input may take


class HangError(BaseException):
    """A reader does not come back."""


@contextmanager
def as_it_was() -> Iterator[None]:
    """Undo what commands do to their process, and end them if they hang."""

    def give_up(*_: object) -> None:
        raise HangError

    path, before = list(sys.path), signal.signal(signal.SIGALRM, give_up)
    signal.alarm(HANGS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        sys.path[:] = path


def fuzz(name: str, target: Target, number: int, pristine: Path, folder: Path) -> list[str]:
    """Damage one file and read it. Returns: what went wrong."""
    rng = seed_of(name, number)
    damaged = mutate((pristine / target.file).read_bytes(), rng)
    readers = dict(target.readers) | (dict(target.rare) if number % 20 == 0 else {})
    wrong = []
    for reader, documented in readers.items():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(pristine, folder)
        (folder / target.file).write_bytes(damaged)
        problem = read(reader, documented, folder)
        after = (folder / target.file).read_bytes()
        if after != damaged and not (target.file.endswith(".jsonl") and is_kept(damaged, after)):
            problem += "\nthe file was changed"
        if problem:
            wrong.append(f"{name!r} {number}, {getattr(reader, '__name__', reader)}: {problem}")
    return wrong


def is_kept(before: bytes, after: bytes) -> bool:
    """Return whether a journal lost nothing but what a kill had left of its last line."""
    whole = before[: before.rfind(b"\n") + 1]
    return after.startswith(whole) and before[len(whole) :].count(b'{"event": "') <= 1


def read(reader: object, documented: Sequence[type[BaseException]], folder: Path) -> str:
    """Call a reader. Returns: the traceback of an error that is not documented, else nothing."""
    assert callable(reader)
    try:
        with as_it_was():
            reader(folder)
    except tuple(documented):
        return ""
    except (Exception, SystemExit, HangError):
        return traceback.format_exc()
    return ""


def check(name: str, numbers: Sequence[int], scratch: Path, seconds: float = float("inf")) -> int:
    """Read damaged files until the time is over. Returns: how many."""
    target, until = TARGETS[name], time.monotonic() + seconds
    (pristine := scratch / "pristine").mkdir()
    target.make(pristine)
    wrong: list[str] = []
    done = 0
    for number in numbers:
        if len(wrong) > 20 or time.monotonic() > until:
            break
        wrong += fuzz(name, target, number, pristine, scratch / "damaged")
        done += 1
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong)
    return done


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_whole_is_read(name: str, tmp_path: Path) -> None:
    """Else the fuzz would show nothing."""
    target = TARGETS[name]
    (pristine := tmp_path / "pristine").mkdir()
    target.make(pristine)
    for reader in target.readers:
        shutil.copytree(pristine, tmp_path / "whole")
        if getattr(reader, "__name__", "") != "elastic_journal":  # another search's
            assert not read(reader, (), tmp_path / "whole")
        shutil.rmtree(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_sample_of_damaged_files(name: str, tmp_path: Path) -> None:
    assert check(name, sampled(range(TARGETS[name].inputs), 1000), tmp_path, SECONDS / len(TARGETS)) > 5


@pytest.mark.nightly
@pytest.mark.parametrize("name", TARGETS)
def test_all_damaged_files(name: str, tmp_path: Path) -> None:
    assert check(name, range(TARGETS[name].inputs), tmp_path) == TARGETS[name].inputs


def test_it_is_ten_thousand_files() -> None:
    assert sum(target.inputs for target in TARGETS.values()) >= 10_000


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        (pristine := Path(scratch, "pristine")).mkdir()
        TARGETS[sys.argv[1]].make(pristine)
        damaged = mutate((pristine / TARGETS[sys.argv[1]].file).read_bytes(), seed_of(sys.argv[1], int(sys.argv[2])))
        sys.stdout.buffer.write(damaged + b"\n")
        print(*fuzz(sys.argv[1], TARGETS[sys.argv[1]], int(sys.argv[2]), pristine, Path(scratch, "damaged")), sep="\n")
