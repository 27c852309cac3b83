"""Speak with Slurm through its commands: sbatch, squeue and scancel."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_tuners.hosts.trials.process import TrialError

_COMMANDS = ("sbatch", "squeue", "scancel")
_ENDS = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL")
_ENDED = {*_ENDS, "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"}
_PASSING = ("unable to contact", "timed out", "temporarily", "try again", "connection refused")  # a controller restarts
_BUSY = ("busy", "not available (down")  # a job would wait for these
_PAUSES = (1, 4, 15, 60)  # seconds
_PATIENCE = 120.0  # seconds for a command; their own limits are shorter
_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # of what Slurm has told this process, which may be a job itself
_DEFAULTS = ("SLURM_", "SQUEUE_", "SCANCEL_", "SBATCH_WAIT", "SBATCH_ARRAY")  # would hide jobs, or make others of them


class SlurmError(TrialError):
    """Slurm is not there, does not answer, or refuses a job."""


@dataclass(frozen=True)
class QueuedJob:
    """A job that Slurm knows, by its id; one that has ended is known for some minutes."""

    id: int
    state: str  # as squeue names it
    name: str

    @property
    def has_ended(self) -> bool:
        """Return whether it has ended, and will not be run again."""
        return self.state in _ENDED


def check(words: Sequence[str]) -> None:
    """Check that Slurm takes jobs with such options. Raises SlurmError if it does not."""
    if missing := [name for name in _COMMANDS if shutil.which(name) is None]:
        absent = " and no ".join(missing)
        raise SlurmError(f"there is no {absent} on the PATH: --on slurm wants a machine from which jobs are submitted.")
    done = _call(["sbatch", "--test-only", *words], text="#!/bin/bash\n")
    said = _say(done)
    if done.returncode and not any(text in said.lower() for text in _BUSY):
        raise SlurmError(f"Slurm does not take such a job: {said}\nsbatch was given: {' '.join(words) or 'no options'}")


def submit(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Submit a job; ``words`` are options, a script and its arguments. Returns: its id.

    Raises SlurmError if it is refused, or the controller is away for longer than a minute.
    """
    for pause in (*_PAUSES, None):
        done = _call(["sbatch", "--parsable", *words], environment)
        number = done.stdout.strip().partition(";")[0]
        if done.returncode == 0 and number.isdigit():
            return int(number)
        said = _say(done)
        if pause is None or not any(text in said.lower() for text in _PASSING):
            break
        time.sleep(pause)
    raise SlurmError(f"a trial cannot be submitted: {said}")


def list_jobs() -> list[QueuedJob]:
    """Return all jobs of this user, also those that have just ended, the oldest first.

    Raises SlurmError if the controller does not answer.
    """
    words = ["--noheader", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%j"]
    done = _call(["squeue", *words])
    if done.returncode:
        raise SlurmError(f"Slurm does not say what has become of the trials: {_say(done)}")
    rows = [line.strip().split("|", 2) for line in done.stdout.splitlines()]
    jobs = [QueuedJob(int(row[0]), row[1], row[2]) for row in rows if len(row) == 3 and row[0].isdigit()]  # no arrays
    return sorted(jobs, key=lambda job: job.id)


def cancel(ids: Iterable[int], *words: str) -> str | None:
    """Cancel jobs, or send them a signal. Returns: what went wrong, None if nothing did."""
    numbers = [str(number) for number in ids]
    if not numbers:
        return None
    try:
        done = _call(["scancel", *words, *numbers])
    except SlurmError as error:
        return str(error)
    return _say(done) if done.returncode else None


def _call(
    words: Sequence[str], environment: Mapping[str, str] = os.environ, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Call a command of Slurm's, in a session of its own, so that Ctrl-C does not reach it."""
    own = {name: value for name, value in environment.items() if name in _KEPT or not name.startswith(_DEFAULTS)}
    try:
        return subprocess.run(
            words,
            input=text,
            env=own,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            start_new_session=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmError(f"{words[0]} cannot be called: {error}") from None


def _say(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command complains of, in a line."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines))[:500] or f"{Path(done.args[0]).name} ends with exit code {done.returncode}"
