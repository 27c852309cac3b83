"""An append-only journal: one JSON line an event, on the disk before the event takes effect anywhere else.

A line that was cut short by a kill is dropped with a warning; any other line that cannot be read, or was changed, is an
error. A file that does not begin as our journals do is never written to.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import warnings
import zlib
from pathlib import Path
from typing import Any, Self
from weakref import WeakSet

from nas_tuners.search.json_values import to_json_value
from search_spaces.files import open_ordinary, sync_folder
from search_spaces.resolve import reason_of
from search_spaces.trust import signed

JOURNAL = "journal.jsonl"  # in the folder of its run
FORMAT = 1
Event = dict[str, Any]
_EVENT = b'{"event": "'  # every line begins like this
_BEGIN = _EVENT + b'header", "format": '


class JournalError(RuntimeError):
    """A journal cannot be read or written, or is not the one that was expected."""


class Journal:
    """An open journal. One process at a time may hold it; the lock ends with the process, however that ends.

    ``header`` is the first event of a new journal, whose folder is made, and gets this user's signature, see
    :mod:`search_spaces.trust`; None opens one that exists. Raises JournalError if it cannot be opened, is a link, is
    held by another process, or is damaged; for a new one also if there is one already. The file is as it was then.
    """

    def __init__(self, path: str | os.PathLike[str], header: Event | None = None) -> None:
        self.path = Path(path)
        flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if header is not None else 0)
        try:
            if header is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            _check_file(self.path)
            self._fd = open_ordinary(self.path, flags)
        except OSError as error:
            raise JournalError(f"cannot open the journal {self.path}: {error.strerror}.") from None
        _journals.add(self)
        try:
            self._lock()
            self._begin(header)
        except BaseException:
            self.close()
            raise
        self.header = self.events[0]

    def _begin(self, header: Event | None) -> None:
        if header is not None and has_begun(self.path):
            raise JournalError(f"{self.path} exists: resume it, or give another folder.")
        self.events, self._size = ([], 0) if header is not None else read(self.path)
        os.ftruncate(self._fd, self._size)
        if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
            self._size += os.write(self._fd, b"\n")
        if not self.events:
            self._write_header(header)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(
                f"{self.path} is in use by another process: a search that still runs, or a tuner that outlived its "
                "experiment. Wait for the one; end the other (nas resume does that)."
            ) from None

    def _write_header(self, header: Event | None) -> None:
        if header is None:
            raise JournalError(f"{self.path} is empty: there is nothing to resume.")
        self.events = [signed(_to_json({"event": "header", "format": FORMAT, **header}))]
        self.append(self.events[0])
        sync_folder(self.path.parent)

    def append(self, event: Event) -> None:
        """Write one event and wait until it is on the disk.

        Raises JournalError if it could not be written; the journal is as it was before.
        """
        if self._fd < 0:
            raise JournalError(f"{self.path} is closed.")
        try:
            text = json.dumps(_to_json(event), ensure_ascii=False, allow_nan=False, default=to_json_value)
        except (TypeError, ValueError, RecursionError) as error:
            raise JournalError(f"cannot write to the journal {self.path}: {reason_of(error)}.") from None
        line = text.encode("utf-8", "backslashreplace")
        line = (_seal(line) if self._size else line) + b"\n"  # the header has a signature
        try:
            written = 0
            while written < len(line):
                written += os.write(self._fd, line[written:])
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise JournalError(f"cannot write to the journal {self.path}: {error.strerror}.") from None
        self._size += len(line)

    def close(self) -> None:
        """Release the file; nothing can be appended from here on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close_copies() -> None:
    """Close what a fork has copied: a child that outlives its search would hold the lock, and no resume was possible.

    Locks that a fork does not copy, those of ``lockf``, end as soon as the process closes the file anywhere else, such
    as after reading it.
    """
    for journal in _journals:
        journal.close()


_journals: WeakSet[Journal] = WeakSet()
os.register_at_fork(after_in_child=_close_copies)


def has_begun(path: Path) -> bool:
    """Return whether there is a journal; one that was killed within its first line has not begun.

    Raises JournalError if there is something else.
    """
    if not path.exists():
        return False
    data = _read_file(path)
    _check_begin(path, data)
    return _size_of(data) > 0


def _check_file(path: Path) -> None:
    """Check that opening a path does not wait, and that writing to it is what a journal needs."""
    if path.exists() and not path.is_file():
        raise JournalError(f"{path} is not a file: wanted a journal.")


def _read_file(path: Path) -> bytes:
    _check_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror}.") from None


def _check_begin(path: Path, data: bytes) -> None:
    if not (data.startswith(_BEGIN) or _BEGIN.startswith(data)):
        raise JournalError(
            f"{path}, line 1: wanted the header of a journal of format {FORMAT}. It is not one of ours, and is left as "
            "it is."
        )
    if _size_of(data) == 0 and _EVENT in data[1:]:
        raise JournalError(f"{path} is damaged: its lines have no ends. It is left as it is; restore it from a copy.")


def _size_of(data: bytes) -> int:
    """Return how many bytes whole lines take; the last one may lack its end if all else of it is there."""
    size = data.rfind(b"\n") + 1
    with contextlib.suppress(ValueError, RecursionError):
        if size < len(data) and isinstance(json.loads(data[size:]), dict):
            return len(data)
    return size


def read(path: str | os.PathLike[str]) -> tuple[list[Event], int]:
    """Return the events of a journal, the header first, and how many bytes of the file they take.

    Raises JournalError if the file or a line of it cannot be read; the line is named.
    """
    data = _read_file(Path(path))
    _check_begin(Path(path), data)
    size = _size_of(data)
    if size < len(data):
        warnings.warn(f"{path}: the last line was cut short and is dropped.", RuntimeWarning, stacklevel=2)
    events = [_parse_event(path, number, line) for number, line in enumerate(data[:size].splitlines(), start=1)]
    if events and (events[0].get("event") != "header" or events[0].get("format") != FORMAT):
        raise JournalError(f"{path}, line 1: wanted the header of a journal of format {FORMAT}. It is not one of ours.")
    if events and (problems := _check_header(events[0])):
        raise JournalError(f"{path}, line 1: the header does not fit: {'; '.join(problems)}.")
    return events, size


def _check_header(header: Event) -> list[str]:
    search = header.get("search")
    wanted = {name: header.get(name) for name in ("digest", "optimize_mode")}
    if isinstance(search, dict):
        wanted["search.name"] = search.get("name")
    problems = [f"{name} is {value!r}, wanted a text" for name, value in wanted.items() if not isinstance(value, str)]
    if not isinstance(search, dict) or not isinstance(search.get("arguments"), dict):
        problems.append(f'search is {search!r}, wanted {{"name": ..., "arguments": {{...}}}}')
    if not isinstance(header.get("space"), dict):
        problems.append(f"space is {header.get('space')!r}, wanted a search space")
    return problems


def _seal(line: bytes) -> bytes:
    """Add a checksum to a JSON object."""
    return line[:-1] + b', "crc32": "%08x"}' % zlib.crc32(line)


def _unseal(line: bytes) -> bytes | None:
    """Return what was sealed, None if it was changed since; of earlier versions or written by hand, it has no seal."""
    found = re.fullmatch(rb'(.*), "crc32": "[0-9a-f]{8}"\}', line)
    plain = line if found is None else found[1] + b"}"
    return plain if found is None or _seal(plain) == line else None


def _parse_event(path: str | os.PathLike[str], number: int, line: bytes) -> Event:
    try:
        event = _STRICT.decode((_unseal(line) or b"").decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise JournalError(f"{path}, line {number} is damaged: {line[:60]!r}. Restore the file from a copy.")
    return event


def _to_finite(text: str) -> float:
    """Read a number as JSON allows it, which NaN and infinity are not. Raises ValueError."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not finite")
    return value


_STRICT = json.JSONDecoder(parse_constant=_to_finite, parse_float=_to_finite)


def _to_json(value: Any) -> Any:
    """Return strict JSON: NaN and infinity as text."""
    if isinstance(value, dict):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
