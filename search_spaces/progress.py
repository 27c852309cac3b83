"""Show on stderr how far a long task is. The one progress display of training, search and measurement."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Self, TextIO

_OFTEN = 0.2  # seconds between two lines on a terminal, and between two notes, at least
_COLUMNS = 80  # of a line in a log
_CUT = "..."
_MOST_WANTED = 16  # characters of a note, for which rate and bar make room
_SHARE = 0.02  # of the time so far, between two lines in a log, at least: that of a day's training stays short


class Progress:
    """Show done, total, time left, rate and a note: one line, rewritten on a terminal; sparse lines anywhere else.

    Use it as a context: then the time goes on during steps that take minutes, and the last line tells the end. An
    update costs less than a microsecond while no line is due.

    Args:
        total: steps of the whole task; None: unknown.
        unit: name of the steps in the plural, such as "trials".
        task: name of the task, such as "measuring"; it begins the line.
        done: steps that were done before, in a task that is resumed: the time left is not computed from them.
        show: False writes nothing.
        quiet: seconds before the first line: shorter tasks write nothing.
        every: seconds between two lines in a log, at least.
        stream: where to write; default: stderr.
        clock: returns seconds.

    Attributes:
        note: what stands at the end of the line, such as the best so far. A function is called by :meth:`at` and
            :meth:`step`, at most five times a second.
    """

    def __init__(
        self,
        total: int | None,
        unit: str = "steps",
        task: str = "",
        *,
        done: int = 0,
        show: bool = True,
        quiet: float = 0.0,
        every: float = 5.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.done = total, done
        self.note: str | Callable[[], str] = ""
        self._unit, self._task, self._before = unit, task, done
        self._every, self._stream, self._clock = every, stream or sys.stderr, clock
        self._terminal = show and self._stream.isatty()
        self._started = clock()
        self._due = self._started + quiet if show else float("inf")
        self._note, self._note_due, self._line = "", self._started, ""
        self._writing, self._over = threading.Lock(), threading.Event()

    def step(self) -> None:
        """Count one step."""
        self.at(self.done + 1)

    def at(self, done: int, total: int | None = None) -> None:
        """Set the number of steps done so far, and the total if it is given; write a line if one is due."""
        self.done = done
        self.total = total or self.total
        now = self._clock()
        if now >= min(self._note_due, self._due):
            self._renew_note(now)
        if now >= self._due:
            self._write()

    def __enter__(self) -> Self:
        if self._due < float("inf"):
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the last line, if it is not there yet, unless the task was too short for any. Nothing follows it."""
        if self._over.is_set():
            return
        now = self._clock()
        if self._line or now >= self._due:
            self._renew_note(now)
            self._write()
        self._over.set()
        if self._terminal and self._line:
            self._put("\n")

    def _watch(self) -> None:
        """Write lines while no step is done."""
        while not self._over.wait(self._every):
            if self._clock() >= self._due:
                self._write()  # with the note of before: a new one might read what the task is just changing

    def _renew_note(self, now: float) -> None:
        self._note = self.note() if callable(self.note) else self.note
        self._note_due = now + _OFTEN if self._due < float("inf") else self._due

    def _write(self) -> None:
        with self._writing:
            now = self._clock()
            seconds = now - self._started
            self._due = now + (_OFTEN if self._terminal else max(self._every, _SHARE * seconds))
            columns = shutil.get_terminal_size().columns - 1 if self._terminal else _COLUMNS
            room, fresh = columns - len(f"{self._task} ".lstrip()), self.done - self._before
            line = progress_line(self.done, self.total, self._unit, seconds, fresh, self._note, room)
            line = f"{self._task} {line}".lstrip()
            if line != self._line and not self._over.is_set():
                self._put(f"\r{line}\x1b[K" if self._terminal else f"{line}\n")
                self._line = line

    def _put(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone: no reason to end a training
            self._stream.write(text)
            self._stream.flush()


def progress_line(
    done: int, total: int | None, unit: str, seconds: float, fresh: int, note: str = "", columns: int = _COLUMNS
) -> str:
    """Return one line: a bar, steps done of the total (None: unknown), time left, rate, note.

    ``seconds`` and ``fresh``, the steps done in them, are since the task began or was resumed. Where ``columns`` are
    few, the last parts of the note go first, which two spaces divide, then rate and bar, and never the time left.

    >>> progress_line(30, 100, "trials", 60.0, 20, "best 0.93")
    '[###-------] 30/100 trials  ETA 3:30  3.0 s each  best 0.93'
    >>> progress_line(30, None, "trials", 15.0, 30)
    '30 trials  2.0/s'
    >>> progress_line(30, 100, "trials", 60.0, 20, "best 0.93  pending 4", 66)
    '[###-------] 30/100 trials  ETA 3:30  3.0 s each  best 0.93  ...'
    """
    counted, left, rate = f"{done}{f'/{total}' if total else ''} {unit}", "", ""
    filled = min(10, 10 * done // total) if total else 0
    bar = f"[{'#' * filled}{'-' * (10 - filled)}] " if total else ""
    if fresh > 0 and seconds > 0:
        left = f"ETA {_clock_time(seconds / fresh * (total - done))}" if total and done < total else ""
        speed = fresh / seconds
        rate = f"{speed:.0f}/s" if speed >= 10 else f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"
    heads = ["  ".join(filter(None, parts)) for parts in ((bar + counted, left, rate), (bar + counted, left))]
    heads.append("  ".join(filter(None, (counted, left))))
    best = len(note.partition("  ")[0])  # the first part of a note is what counts most
    wanted = 2 + min(best, _MOST_WANTED) + (len(_CUT) if best > _MOST_WANTED else 0) if note else 0
    head = next((head for head in heads if len(head) + wanted <= columns), heads[-1][:columns])
    return _add_note(head, note, columns)


def _add_note(line: str, note: str, columns: int) -> str:
    """Return a line with as much of a note as has room: whole parts, of which the first may be cut."""
    if not note or len(line) + 2 + len(note) <= columns:
        return f"{line}  {note}" if note else line
    room = columns - len(f"{line}    {_CUT}")
    first, *others = note.split("  ")
    if len(first) > room:
        return f"{line}  {first[: room + 2]}{_CUT}" if room > 8 else line
    line = f"{line}  {first}"
    for part in others:
        if len(f"{line}  {part}  {_CUT}") > columns:
            break
        line = f"{line}  {part}"
    return f"{line}  {_CUT}"


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
