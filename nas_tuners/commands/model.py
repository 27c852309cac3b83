"""What commands that are about a model have in common: the model by name, its input, and progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nas_tuners.commands import CommandError

if TYPE_CHECKING:
    from torch import nn

_QUIET = 5.0  # seconds before anything is said


def built(factory: str) -> nn.Module:
    """Return the model that ``MODULE:FUNCTION`` builds; the current folder is looked in first.

    Raises:
        CommandError: the module cannot be imported.
        FactoryError: there is no such function, it is not said to return a module, or it fails.
    """
    from mutators.subnet.trust import FactoryError, call_factory

    look_in_current_folder()
    try:
        return call_factory(factory, {})
    except FactoryError:
        raise
    except Exception as error:  # whatever the author's module raises when it is imported
        raise CommandError(f"cannot import {factory}: {type(error).__name__}: {error}") from error


def look_in_current_folder() -> None:
    """Let modules of the current folder be imported, before others."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)


def shape(text: str) -> tuple[int, ...]:
    """Return the shape that ``3,224,224`` means.

    Raises:
        CommandError: it is none.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise CommandError(f"--input is {text!r}, wanted a shape without the batch, such as 3,224,224.")
    return tuple(map(int, parts))


def progress(what: str) -> Callable[[int, int], None]:
    """Return a function that shows on stderr how far it is, once five seconds have passed, and at most twice a second.

    Args:
        what: is being done.
    """
    started = shown = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - started < _QUIET or (now - shown < 0.5 and done < total):
            return
        shown = now
        left = int((now - started) / done * (total - done))
        bar = "#" * (10 * done // total)
        sys.stderr.write(f"\r{what} [{bar:-<10}] {done}/{total}  ETA {left // 60}:{left % 60:02d} ")
        sys.stderr.write("\n" if done == total else "")
        sys.stderr.flush()

    return show
