"""Run one trial: a process with a folder, logs and a process group of its own."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_tuners.hosts.nni.failures import read_last_words
from nas_tuners.hosts.trials.protocol import METRICS, ProtocolError, Reader, Report, make_environment, write_parameters
from nas_tuners.runs.warden import end_marked
from nas_tuners.runs.workers import WorkerError

OUT, ERR = "trial.stdout", "trial.stderr"  # in a trial's folder, as NNI names them
REPORTS = "reports.jsonl"  # beside them: all that it has reported
_SHELL = "/bin/bash"  # NNI's
_PIECE, _PIECES = 1 << 16, 64  # bytes that are read at once, and how often before others have their turn
_GRACE = 5.0  # seconds from SIGINT to SIGKILL, as in NNI
_NOT_FOUND = (126, 127)  # exit codes of a shell that cannot run a command


class TrialError(WorkerError):
    """A trial cannot be started, or its command cannot be run at all."""


@dataclass(frozen=True)
class Ended:
    """The end of a trial's process.

    Args:
        code: its exit code, or minus a signal's number.
        log: its stderr.
        stopped: why it was interrupted, if it was.
        broken: why it has failed whatever it said, if so: what it reported cannot be read, or its machine is gone.
    """

    code: int
    log: Path
    stopped: str | None = None
    broken: str | None = None

    @property
    def not_found(self) -> bool:
        """Return whether the shell has found no such command, so that no other trial will do better."""
        return self.code in _NOT_FOUND and self.stopped is None

    @property
    def reason(self) -> str:
        """Return why there is no result, as far as the trial's stderr tells."""
        if known := self.broken or self.stopped:
            return known
        words = read_last_words(self.log)
        if self.code < 0:
            names = {number.value: number.name for number in signal.Signals}
            return f"killed by {names.get(-self.code, -self.code)}" + (f": {words}" if words else "")
        if self.code == 0:
            return "its trial ended without a result"
        return words or f"exit code {self.code}, without a word on stderr"


@dataclass(frozen=True)
class Restarted:
    """A trial has begun anew, and not by this process: what it reported on the way counts no longer."""


class TrialProcess:
    """A trial that runs. ``mark`` is the entry of its environment by which all that it starts is found.

    Raises TrialError if it cannot be started.
    """

    def __init__(
        self,
        uid: int,
        command: str,
        code: str,
        folder: Path,
        parameters: Mapping[str, Any],
        gpus: str | None,
        mark: str,
    ) -> None:
        self.uid, self.folder, self.gpus = uid, folder, gpus
        self._mark = mark
        self._reader = Reader()
        self.stopped: str | None = None  # why
        self._broken: str | None = None
        self.kill_at = math.inf  # after it was stopped
        self.pipe = -1
        try:
            self.pipe = _prepare(folder, uid, parameters)
            environment = make_environment(folder, str(parameters["_run"]), uid, code, gpus)
            name, _, value = mark.partition("=")
            with open(folder / OUT, "wb") as out, open(folder / ERR, "wb") as err:
                self._process = subprocess.Popen(
                    [_SHELL, "-c", command],
                    cwd=code,
                    env=environment | {name: value},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    close_fds=False,  # the kernel does, at exec: until then the child keeps the warden waiting
                )
            self.sentinel = os.pidfd_open(self._process.pid)
        except OSError as error:
            self._close()
            raise TrialError(f"trial {uid} cannot be started: {error}.") from None
        self.started = time.monotonic()

    def read(self) -> list[Report]:
        """Return what it has reported since the last call, or a good part of that. If it is no report, end it."""
        reports: list[Report] = []
        try:
            for _ in range(_PIECES):
                reports.extend(self._reader.feed(os.read(self.pipe, _PIECE)))
        except BlockingIOError:
            pass
        except ProtocolError as error:
            self._broken = self._broken or str(error)
            self._signal(signal.SIGKILL)
        if reports:
            with open(self.folder / REPORTS, "a", encoding="utf-8") as file:
                file.writelines(f"{report.text}\n" for report in reports)
        return reports

    def stop(self, reason: str) -> None:
        """Interrupt it, as Ctrl-C would; it will be killed if that does not end it."""
        if self.stopped is None:
            self.stopped, self.kill_at = reason, time.monotonic() + _GRACE
            self._signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill it, with all that it has started."""
        self.kill_at = math.inf
        self._signal(signal.SIGKILL)
        end_marked(self._mark)

    def end(self) -> tuple[list[Report], Ended]:
        """Wait for its end, and end what is left of its group. Returns: its last reports, and how it ended."""
        self._signal(signal.SIGKILL)  # first: its number is nobody else's until it was waited for
        code = self._process.wait()
        reports = self.read()
        self._close()
        (self.folder / METRICS).unlink(missing_ok=True)  # whoever reads all files would wait for it for ever
        return reports, Ended(code, self.folder / ERR, self.stopped, self._broken)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _close(self) -> None:
        for descriptor in (self.pipe, getattr(self, "sentinel", -1)):
            if descriptor >= 0:
                os.close(descriptor)
        self.pipe = self.sentinel = -1


def _prepare(folder: Path, uid: int, parameters: Mapping[str, Any]) -> int:
    """Write what a trial reads, in a folder that may be that of an earlier try. Returns: the pipe of its reports."""
    pipe = folder / METRICS
    pipe.parent.mkdir(parents=True, exist_ok=True)
    write_parameters(folder, uid, parameters)
    (folder / REPORTS).unlink(missing_ok=True)
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe, 0o600)
    return os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # for writing, too: else it would end with each writer
