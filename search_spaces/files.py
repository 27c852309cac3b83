"""Write files so that they are either the old or the new ones, never half of it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under a temporary name in the same folder, which is made if need be, fsync it, and rename it.

    What is no file, such as ``/dev/null``, is written to as it is. Raises OSError if it cannot be written; what stood
    under ``path`` is as it was.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
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


def sync_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the disk: without it a crash may lose a new file itself."""
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
