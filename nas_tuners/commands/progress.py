"""The line that a search shows on stderr while it goes on."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from nas_tuners.commands.show import costs_of, progress
from nas_tuners.run import Run

_OFTEN, _SELDOM = 0.2, 5.0  # seconds between two lines, on a terminal and in a log


class Progress:
    """Shows how far a run is: one line, rewritten on a terminal; a new one every five seconds anywhere else.

    Args:
        trials: results that the run will have.
        stream: to write to; default: stderr.
    """

    def __init__(self, trials: int, stream: TextIO | None = None) -> None:
        self._trials, self._stream = trials, stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._started = self._shown = time.monotonic()
        self._before: int | None = None

    def __call__(self, run: Run) -> None:
        """Take note of a result, and show it if it is time to."""
        now, counts = time.monotonic(), run.search.counts
        done = counts.told + counts.failed
        first = self._before is None
        if self._before is None:
            self._before = done
        every = _OFTEN if self._terminal else _SELDOM
        if now - self._shown >= every or (self._terminal and (first or done >= self._trials)):
            self._shown = now
            self._write(self._line(run, done))

    def close(self) -> None:
        """End the line."""
        if self._terminal and self._before is not None:
            self._stream.write("\n")
            self._stream.flush()

    def _line(self, run: Run, done: int) -> str:
        before = self._before or 0
        return progress(run, self._trials, time.monotonic() - self._started, done - before, costs_of(run))

    def _write(self, line: str) -> None:
        if self._terminal:
            width = shutil.get_terminal_size().columns
            self._stream.write(f"\r{line[: width - 1]}\x1b[K")
        else:
            self._stream.write(line + "\n")
        self._stream.flush()
