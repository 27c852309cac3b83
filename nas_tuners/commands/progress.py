"""The line that a search shows on stderr while it goes on."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import Self, TextIO

from nas_tuners.commands.show import costs_of, progress
from nas_tuners.runs.run import Run

_OFTEN, _SELDOM = 0.2, 5.0  # seconds between two lines, on a terminal and in a log


class Progress:
    """Shows how far a run is: one line, rewritten on a terminal; a new one every five seconds anywhere else.

    As a context it also does so while nothing is told, for evaluations that take minutes.

    Args:
        trials: results that the run will have.
        stream: to write to; default: stderr.
    """

    def __init__(self, trials: int, stream: TextIO | None = None) -> None:
        self._trials, self._stream = trials, stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._started = self._shown = time.monotonic()
        self._run: Run | None = None
        self._before = 0  # results there were already
        self._writing, self._over = threading.Lock(), threading.Event()

    def __call__(self, run: Run) -> None:
        """Take note of a result, and show it if it is time to."""
        done = run.search.counts.told + run.search.counts.failed
        first = self._run is None
        if first:
            self._run, self._before = run, done
        due = time.monotonic() - self._shown >= (_OFTEN if self._terminal else _SELDOM)
        if due or (self._terminal and (first or done >= self._trials)):
            self._show()

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the line."""
        with self._writing:
            self._over.set()
            if self._terminal and self._run is not None:
                self._stream.write("\n")
                self._stream.flush()

    def _watch(self) -> None:
        while not self._over.wait(_SELDOM):
            if self._run is not None and time.monotonic() - self._shown >= _SELDOM:
                self._show()

    def _show(self) -> None:
        with self._writing:
            if self._run is None or self._over.is_set():
                return
            self._shown = time.monotonic()
            counts = self._run.search.counts
            fresh = counts.told + counts.failed - self._before
            line = progress(self._run, self._trials, self._shown - self._started, fresh, costs_of(self._run))
            if self._terminal:
                line = f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K"
            self._stream.write(line if self._terminal else line + "\n")
            self._stream.flush()
