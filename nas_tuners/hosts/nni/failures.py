"""Find in an NNI experiment's own files why its tuner or its trials failed: NNI's status only says that they did."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from nas_tuners.show.text import group_reasons

_RECORD = re.compile(r"^\[[\d :-]+\] ([A-Z]+) \(([\w.]+)", re.MULTILINE)
_FRAME = re.compile(r'^ +File "(.+)", line (\d+)(?:, in (.+))?$')
_CHAINED = re.compile(r"\n\n(?:During handling of|The above exception was) ")
_MODULE = re.compile(r"^(?:\w+\.)+(?=\w+(?::|$))")  # before the name of an exception
_FOREIGN = re.compile(r"/lib/python3(?!.*/(?:nas_tuners|mutators|search_spaces)/)|^<")
_CONNECTION = re.compile(r'^ +File ".+/(?:websockets|nni/runtime/command_channel)/', re.MULTILINE)
_ENDS = re.compile(r"nni(?!\.runtime\.command_channel)\b")  # the channel tries again what it logs
_BEGIN = "Traceback (most recent call last)"
STARTED = "Dispatcher started"  # what a tuner's log says once it has connected
_ID = re.compile(r"\w[\w-]*")  # of a trial: it stands in paths, and in patterns of them
_TAIL = 2**16  # bytes of a log that are read from its end
_LONGEST = 400  # characters of an error
_COMPARED = 150  # characters of two reasons, since trials report shortened ones
_SILENT = "ended without a word on stderr"
_PATIENCE = 2.0  # seconds for a query: a database of another's may define tables as what has no end
_MOST = 1 << 20  # characters of a value of it


@dataclass(frozen=True)
class Raised:
    """An exception as Python prints it: its last line, and where in the user's or our code it was raised."""

    error: str
    place: str | None


def describe_experiment_failures(folder: Path, known: Sequence[str] = ()) -> list[str]:
    """Return lines about a tuner that has failed, and about trials that NNI counts as failed.

    Args:
        folder: of the experiment.
        known: reasons that are shown already, from the journal.
    """
    lines = []
    log = folder / "log" / "dispatcher.log"
    if raised := find_tuner_failure(log):
        lines = [f"the tuner failed: {raised.error}", *([f"  at {raised.place}"] if raised.place else ())]
        lines.append(f"  log: {log}")
    failed = _failed_trials(folder)
    reasons = [one for one in failed if not any(one[1][:_COMPARED] in reason for reason in known)]
    files = {why: file for _, why, file in reasons}
    for names, why in group_reasons((name, why) for name, why, _ in reasons):
        lines.append(f"failed: trial {names}: {why}" + (f"\n  log: {files[why]}" if files[why] else ""))
    return lines


def find_tuner_failure(log: Path) -> Raised | None:
    """Return what ended the tuner since its last start, as its log tells; None if nothing did.

    Only what NNI itself caught ends a tuner: errors that our tuners log beside that did not. That the connection to the
    manager is lost follows from a failure more often than it is one: it is told only where there is nothing else.
    """
    text = _read_tail(log)
    text = text[text.rfind(STARTED) + 1 :]
    ends = [*[match.start() for match in _RECORD.finditer(text)][1:], len(text)]
    lost = None
    for match, end in reversed([*zip(_RECORD.finditer(text), ends, strict=False)]):
        record = text[match.start() : end]
        if match[1] in ("ERROR", "CRITICAL") and _ENDS.match(match[2]) and _BEGIN in record:
            if not _CONNECTION.search(record):
                return read_exception(record)
            lost = lost or read_exception(record)
    return lost


def read_exception(text: str) -> Raised | None:
    """Return the last exception of a text that Python printed; None if there is none.

    Its place is where the first of a chain of exceptions was raised, in the deepest frame that is neither Python's,
    nor NNI's, nor an installed package's.
    """
    begin = text.rfind(_BEGIN)
    lines = text[begin:].rstrip().splitlines()
    frames = [at for at, line in enumerate(lines) if _FRAME.match(line)]
    if begin < 0 or not frames:
        return None
    said = lines[frames[-1] + 1 :]
    while said and said[0].startswith("    "):  # the line of code, and marks under it
        said.pop(0)
    error = _MODULE.sub("", "; ".join(filter(None, (line.strip() for line in said))))
    return Raised(_shorten(error), _find_place(text))


def _find_place(text: str) -> str | None:
    """Return file, line, function and code of the deepest frame in the user's or our code, of the first exception."""
    chain = _CHAINED.split(text)
    while len(chain) > 1 and chain[-1].count(_BEGIN) == 1:  # more: its last one has nothing to do with those before
        chain.pop()
    lines = chain[-1][chain[-1].rfind(_BEGIN) :].splitlines()
    frames = [(match, at) for at, line in enumerate(lines) if (match := _FRAME.match(line))]
    if not frames:
        return None
    match, at = ([frame for frame in frames if not _FOREIGN.search(frame[0][1])] or frames)[-1]
    code = next((line.strip() for line in lines[at + 1 : at + 2] if line.startswith("    ")), "")
    return f"{match[1]}, line {match[2]}" + (f", in {match[3]}" if match[3] else "") + (f": {code}" if code else "")


def _failed_trials(folder: Path) -> Iterator[tuple[str, str, Path | None]]:
    """Yield id, reason and log of each trial that NNI counts as failed; its parameters it would name wrongly."""
    for name, path in _read_failed(folder / "db" / "nni.sqlite"):
        places = [Path(path or "."), *folder.glob(f"environments/*/trials/{name}"), folder / "trials" / name]
        files = [place / file for place in places for file in ("trial.stderr", "stderr")]
        log = next((file for file in files if file.is_file()), None)
        if log is None:
            yield name, "its stderr is on the machine that ran it", None
            continue
        yield name, read_last_words(log) or _SILENT, log


def read_last_words(log: Path) -> str:
    """Return the exception that ended a trial, or else the last line, of what it wrote to stderr; or ``""``."""
    text = _read_tail(log)
    raised = read_exception(text)
    return raised.error if raised else _shorten(next(filter(str.strip, reversed(text.split("\n"))), ""))


def _read_failed(database: Path) -> list[tuple[str, str | None]]:
    """Return id and folder of the trials that failed, in order; none if NNI's database cannot be read."""
    query = "select trialJobId, max(logPath) from TrialJobEvent where event = 'FAILED' group by 1 order by min(rowid)"
    if not database.is_file():  # opening a pipe has no end
        return []
    until = time.monotonic() + _PATIENCE
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST)
            connection.set_progress_handler(lambda: time.monotonic() > until, 10_000)
            rows = [(str(name), path) for name, path in connection.execute(query)]
            return [(name, path) for name, path in rows if _ID.fullmatch(name) and isinstance(path, str | None)]
    except sqlite3.Error:  # there is none yet, or NNI is just writing it
        return []


def _read_tail(path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
