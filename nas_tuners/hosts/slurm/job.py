"""Run one trial as a job of Slurm, and read what it writes into its folder, which all machines share."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_tuners.hosts.slurm import commands
from nas_tuners.hosts.trials.process import ERR, OUT, REPORTS, Ended, Restarted
from nas_tuners.hosts.trials.protocol import METRICS, ProtocolError, Reader, Report, make_environment, write_parameters

MARK = "job"  # in a trial's folder: the id of its job, until the run gives the job up
_SCRIPT, _EXIT = "job.sh", "exit"  # beside it: what the job runs, and how that ended
_GRACE = 30.0  # seconds from SIGINT to Slurm's own way of ending a job
_HEAD = 200  # bytes, more than the first record of any job
JOB = """#!/bin/bash
# Run a trial as a job. Arguments: its folder, the folder that its command runs in, the command.
folder=$1 code=$2 command=$3
# The first record is another one at each start: a requeued job begins its reports anew.
begun="{\\"type\\": \\"BEGUN\\", \\"job\\": \\"$SLURM_JOB_ID\\", \\"restart\\": \\"${SLURM_RESTART_COUNT:-0}\\"}"
: > "$folder/exit"
printf 'ME%06d%s\\n' $((${#begun} + 1)) "$begun" > "$folder/.nni/metrics"
trap : INT # it is for the command alone, whose exit code is then still written
cd "$code" && /bin/bash -c "$command"
ended=$?
echo "$ended" > "$folder/exit"
exit "$ended"
"""


class TrialJob:
    """A trial that is a job of Slurm.

    Args:
        uid: of the trial.
        folder: of the trial.
        id: of the job.
    """

    def __init__(self, uid: int, folder: Path, id: int) -> None:
        self.uid, self.folder, self.id = uid, folder, id
        self.stopped: str | None = None  # why
        self.kill_at = math.inf  # after it was stopped
        self._broken: str | None = None
        self._exit: int | None = None
        self._reader, self._head, self._at = Reader(), b"", 0

    @staticmethod
    def submit(
        uid: int, folder: Path, words: Sequence[str], command: str, code: str, parameters: Mapping[str, Any]
    ) -> TrialJob:
        """Submit a trial with options of sbatch. Its folder may be that of an earlier try.

        Raises SlurmError if Slurm refuses it, OSError if its folder cannot be written.
        """
        (folder / METRICS).parent.mkdir(parents=True, exist_ok=True)
        for name in (MARK, REPORTS):
            (folder / name).unlink(missing_ok=True)
        for name in (METRICS, _EXIT):  # now: a network file system remembers for a while that there was no such file
            (folder / name).write_bytes(b"")
        write_parameters(folder, uid, parameters)
        (folder / _SCRIPT).write_text(JOB, encoding="utf-8")
        own = ["--export=ALL", f"--chdir={folder}", f"--output={OUT}", f"--error={ERR}"]
        arguments = [str(folder / _SCRIPT), str(folder), code, command]
        environment = make_environment(folder, str(parameters["_run"]), uid, code, None)
        number = commands.submit([*words, *own, *arguments], environment)
        (folder / MARK).write_text(f"{number}\n", encoding="utf-8")
        return TrialJob(uid, folder, number)

    def read(self) -> list[Report | Restarted]:
        """Return what it has reported since the last call. If it is no report, end it."""
        events: list[Report | Restarted] = []
        try:
            with open(self.folder / METRICS, "rb") as file:  # opened anew: then a network file system looks again
                head = file.readline(_HEAD)
                if head.endswith(b"\n") and head != self._head:
                    events += [Restarted()] if self._head else []
                    (self.folder / REPORTS).unlink(missing_ok=True)
                    self._reader, self._head, self._at = Reader(), head, len(head)
                if self._head and not self._broken:
                    file.seek(self._at)
                    piece = file.read()
                    self._at += len(piece)
                    events += self._reader.feed(piece)
        except OSError:  # it is read again
            pass
        except ProtocolError as error:
            self._broken = str(error)
            commands.cancel([self.id])
        self._keep(events)
        return events

    def _keep(self, events: Sequence[Report | Restarted]) -> None:
        texts = [f"{event.text}\n" for event in events if isinstance(event, Report)]
        if texts:
            with open(self.folder / REPORTS, "a", encoding="utf-8") as file:
                file.writelines(texts)

    def has_news(self) -> bool:
        """Return whether its command has ended since the last call: then Slurm knows more."""
        before, self._exit = self._exit, _read_number(self.folder / _EXIT)
        return self._exit is not None and self._exit != before

    def stop(self, reason: str) -> None:
        """Interrupt it, as Ctrl-C would; Slurm ends it if that does not."""
        if self.stopped is None:
            self.stopped, self.kill_at = reason, time.monotonic() + _GRACE
            commands.cancel([self.id], "--full", "--signal=INT")

    def kill(self) -> None:
        """Let Slurm end it."""
        self.kill_at = math.inf
        commands.cancel([self.id])

    def end(self, state: str | None, limit: float | None) -> Ended:
        """Return how it has ended.

        Args:
            state: what Slurm says; None if it knows the job no longer.
            limit: maxTrialDuration, if there is one.
        """
        self.has_news()
        code, late = self._exit, state == "TIMEOUT" and limit is not None
        stopped = self.stopped or (f"it took longer than maxTrialDuration, {limit:g} s" if late else None)
        broken = self._broken
        if not (broken or stopped) and (code is None or state not in ("COMPLETED", "FAILED", None)):
            broken = f"Slurm has ended its job {self.id}: {state or 'it is gone'}"
        number = 128 - code if code is not None and 128 < code <= 128 + max(signal.valid_signals()) else code or 0
        return Ended(number, self.folder / ERR, stopped, broken)

    def give_up(self) -> None:
        """Leave nothing for a resume to take over."""
        with contextlib.suppress(OSError):  # it is to be cancelled all the same
            (self.folder / MARK).unlink(missing_ok=True)


def find_mark(folder: Path) -> int | None:
    """Return the id of the job that runs or ran the trial of a folder, and was not given up."""
    return _read_number(folder / MARK)


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
