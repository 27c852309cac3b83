"""Make folders for runs, and remember which run this user has started last without NNI, so that ``latest`` finds it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from search_spaces.files import write_atomically


def make_folder() -> Path:
    """Make a new folder for a run: ``runs/1``, or the next that is not there."""
    number = 1
    while True:
        try:
            (folder := Path("runs", str(number))).mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def remember(folder: Path) -> None:
    """Note a run's folder as the latest one. Where there is no home to note it in, nothing is."""
    with contextlib.suppress(OSError, RuntimeError):
        path = _note()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, os.fsencode(folder.resolve()))


def recall() -> tuple[Path, float] | None:
    """Return the folder of the run that was started last, and when, in seconds since 1970; None if it is gone."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        path = _note()
        folder = Path(os.fsdecode(path.read_bytes()))
        return (folder, path.stat().st_mtime) if folder.is_dir() else None
    return None


def _note() -> Path:
    """Return where it is noted. Raises RuntimeError if the user has no home."""
    folder = os.environ.get("XDG_STATE_HOME", "")
    base = Path(folder) if os.path.isabs(folder) else Path.home() / ".local" / "state"
    return base / "nas-tuners" / "latest"
