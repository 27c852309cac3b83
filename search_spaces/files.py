"""Write files so that they are either the old or the new ones, never half of it, and open none through a link."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name in the same folder, which is made if need be, fsync it, and rename it.

    What is no file, such as ``/dev/null``, is written to as it is; a link at ``path`` is replaced itself, not what it
    leads to. Raises OSError if it cannot be written; what stood under ``path`` is as it was.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with open(temporary, "xb") as file:  # x: neither an old file nor a link
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def check_replaceable(path: Path, what: str, is_one: Callable[[bytes], bool]) -> None:
    """Check that a command may write a file: there is none yet, or one that is empty or of the same kind.

    Raises FileExistsError if there is another, which may be the only copy of something.
    """
    if path.is_file() and (content := path.read_bytes()) and not is_one(content):
        raise FileExistsError(f"{path} exists and is no {what}: it is left as it is. Give another name, or delete it.")


def create_private(path: Path, content: bytes) -> None:
    """Write a file that only its user can read, as a whole, unless there is one: of two who try, one succeeds.

    Raises OSError if there is none and it cannot be written.
    """
    if os.path.lexists(path):
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = _temporary(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def read_private(path: Path, most: int) -> bytes:
    """Return what :func:`create_private` wrote, ``most`` bytes of it.

    Raises OSError if it cannot be read, or may have been read or written by others.
    """
    descriptor = open_ordinary(path, os.O_RDONLY)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise PermissionError(errno.EPERM, "it is not this user's alone; delete it, or chmod 600", str(path))
        return os.read(descriptor, most)
    finally:
        os.close(descriptor)


def read_file(path: Path) -> bytes:
    """Return what a file holds. Raises OSError if it cannot be read, or is a pipe or a device: these may not end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    return path.read_bytes()


def open_ordinary(path: Path, flags: int) -> int:
    """Open a file to lock it or to keep it open; what it makes others may read. Returns: its descriptor.

    Raises OSError if it cannot be opened, or is a link or no file: it would be another one that is written to.
    """
    try:
        descriptor = os.open(path, flags | _NO_LINK, 0o644)
    except OSError as error:
        raise OSError(
            error.errno, "it is a link" if error.errno == errno.ELOOP else error.strerror, str(path)
        ) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    return descriptor


def sync_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the disk: without it a crash may lose a new file itself."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
