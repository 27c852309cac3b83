"""Lock a checkpoint that several trials go on with, each in its turn, and read and write it under the lock."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mutators import checkpoint
from mutators.checkpoint import DamageError
from search_spaces.files import open_ordinary

_log = logging.getLogger(__name__)
_POLL = 0.05  # seconds; flock itself knows no timeout
_held: set[int] = set()


class SharedCheckpointError(RuntimeError):
    """A shared checkpoint was not free in time, cannot be read or written, or was used without its lock."""


class SharedCheckpoint:
    """A checkpoint whose lock is held, as :func:`shared_checkpoint` gives it."""

    def __init__(self, path: Path) -> None:
        self.path, self._open = path, True

    def read(self) -> dict[str, Any] | None:
        """Return what was written last, tensors on the CPU; None if nothing was yet.

        Raises:
            SharedCheckpointError: the file cannot be read, is damaged, or is no checkpoint of tensors and plain data.
        """
        self._check()
        try:
            return checkpoint.read(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SharedCheckpointError(f"cannot read {self.path}: {error.strerror}.") from None
        except DamageError as error:
            raise SharedCheckpointError(
                f"{self.path} is no checkpoint of tensors and plain data, or damaged: delete or restore it. {error}"
            ) from None

    def write(self, content: Mapping[str, Any]) -> None:
        """Write ``content``, tensors and plain data, as the new checkpoint; a kill meanwhile leaves the old one.

        Raises:
            SharedCheckpointError: it cannot be written; the old one is as it was.
        """
        self._check()
        try:
            checkpoint.write(self.path, content)
        except OSError as error:
            raise SharedCheckpointError(f"cannot write {self.path}: {error.strerror}.") from None

    def _check(self) -> None:
        if not self._open:
            raise SharedCheckpointError(f"{self.path} was released: read and write it inside of the with block.")


@contextmanager
def shared_checkpoint(path: str | os.PathLike[str], timeout: float | None = None) -> Iterator[SharedCheckpoint]:
    """Lock a checkpoint, from reading it until the training that goes on with it is written back.

    The lock is on a file beside it, ``PATH.lock``, which stays there. The kernel releases it when the process ends,
    however that ends; a child that was forked meanwhile does not keep it. It holds on one machine, not over NFS.

    Args:
        path: of the checkpoint; it need not be there yet.
        timeout: seconds to wait for another process; None: as long as it takes.

    Raises:
        SharedCheckpointError: it was not free in time, or the lock's file cannot be opened, or is a link or another
            file than a lock.

    >>> import tempfile
    >>> with shared_checkpoint(Path(tempfile.mkdtemp()) / "supernet.pt") as shared:
    ...     state = shared.read() or {"trials": 0}
    ...     shared.write({"trials": state["trials"] + 1})
    ...     shared.read()
    {'trials': 1}
    """
    shared = SharedCheckpoint(Path(path))
    file = _open_lock(shared.path.with_name(shared.path.name + ".lock"))
    try:
        _lock(file, shared.path, timeout)
        if not re.fullmatch(rb"\d{0,20}", os.pread(file, 21, 0)):
            raise SharedCheckpointError(f"{shared.path}.lock is no lock of ours: move it, or take another path.")
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield shared
    finally:
        shared._open = False
        if file in _held:  # not so in a child
            _held.discard(file)
            os.close(file)


def _open_lock(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open_ordinary(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise SharedCheckpointError(f"cannot open the lock {path}: {error.strerror}.") from None
    _held.add(file)
    return file


def _lock(file: int, path: Path, timeout: float | None) -> None:
    """Wait for the lock, with a warning if it is not free at once."""
    if _try_lock(file):
        return
    _log.warning("waiting for %s, which process %s holds.", path, _holder(file))
    if timeout is None:
        fcntl.flock(file, fcntl.LOCK_EX)
        return
    end = time.monotonic() + timeout
    while not _try_lock(file):
        if time.monotonic() >= end:
            raise SharedCheckpointError(
                f"{path} was not free within {timeout:g} s: process {_holder(file)} holds it. Wait longer, or end that."
            )
        time.sleep(_POLL)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: int) -> str:
    return os.pread(file, 20, 0).decode(errors="replace") or "unknown"


def _close_copies() -> None:
    """Close the files that a fork has copied: data loaders would hold the lock of a trial that was killed."""
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_close_copies)
