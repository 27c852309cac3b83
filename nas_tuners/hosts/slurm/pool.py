"""Run the trials of an experiment as jobs of Slurm, and wait for what they report and for their ends.

Slurm tells nobody of anything: results are read from the trials' folders every second. Squeue is asked when a trial has
written that its command has ended, and every half a minute, in one call for all.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nas_tuners.hosts.slurm import commands
from nas_tuners.hosts.slurm.commands import QueuedJob, SlurmError
from nas_tuners.hosts.slurm.job import TrialJob, find_mark
from nas_tuners.hosts.slurm.options import Options, make_words
from nas_tuners.hosts.trials.plan import TrialPlan
from nas_tuners.hosts.trials.pool import TRIALS, Event, HoldsTrials
from nas_tuners.hosts.trials.process import TrialError

_log = logging.getLogger("nas_tuners")
_TICK = 1.0  # seconds between two looks into the folders
_RARELY = 30.0  # seconds between two calls of squeue, while nothing happens


class SlurmPool(HoldsTrials[TrialJob]):
    """The trials of a run that are queued or running. Use it as a context: whatever is left of them is cancelled.

    If this process is killed, they go on; :meth:`take_over` finds them. A job's name says whose it is.

    Args:
        plan: what to run.
        folder: of the run; all machines of the cluster see it by this path.
        run: its id.
        words: options of sbatch.
    """

    def __init__(self, plan: TrialPlan, folder: Path, run: str, words: Sequence[str] = ()) -> None:
        super().__init__()
        self._plan, self._folder = plan, folder.absolute() / TRIALS
        self._words, self._prefix = words, f"nas-{run}-"
        self._ending: dict[int, int] = {}  # by uid: a job of an earlier process, which is still being cancelled
        self._pause, self._ask_at = _TICK, 0.0

    @property
    def has_room(self) -> bool:
        """Return whether one more trial may be submitted now."""
        return self.running < self._plan.concurrency

    def take_over(self, pending: Collection[int]) -> list[int]:
        """Take over what an earlier process of this run has left, and cancel what has its result.

        Raises SlurmError if Slurm does not answer.

        Returns: the uids, of those that are pending, whose jobs are there or have ended.
        """
        jobs = self._list()
        latest = dict(jobs)
        for uid in pending:
            folder = self._folder / str(uid)
            number = _choose_job(find_mark(folder), latest.get(uid))
            if number is not None:
                self._trials[uid] = TrialJob(uid, folder, number)
        taken = {trial.id for trial in self._trials.values()}
        self._ending = {uid: job.id for uid, job in jobs if not job.has_ended and job.id not in taken}
        commands.cancel(self._ending.values())
        return list(self._trials)

    def _list(self) -> list[tuple[int, QueuedJob]]:
        """Return the jobs of this run, each with its uid."""
        named = [(job.name.removeprefix(self._prefix), job) for job in commands.list_jobs()]
        return [(int(uid), job) for uid, job in named if uid != job.name and uid.isdigit()]

    def start(self, uid: int, parameters: Mapping[str, Any]) -> None:
        """Submit a trial, for which there is room. Raises TrialError if that fails."""
        words = [*self._words, f"--job-name={self._prefix}{uid}"]
        former = self._ending.pop(uid, None)
        if former is not None and any(job.id == former and not job.has_ended for job in commands.list_jobs()):
            words.append(f"--dependency=afterany:{former}")  # both write into one folder
        command, code, folder = self._plan.command, self._plan.folder, self._folder / str(uid)
        try:
            self._trials[uid] = TrialJob.submit(uid, folder, words, command, code, parameters)
        except OSError as error:
            raise TrialError(f"trial {uid} cannot be started: {error}.") from None

    def wait(self, timeout: float = math.inf) -> list[Event]:
        """Return what happens next, a trial's reports before its end; nothing after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while True:
            events: list[Event] = [(uid, event) for uid, trial in self._trials.items() for event in trial.read()]
            events += self._take_leave()
            left = end - time.monotonic()
            if events or left <= 0:
                return events
            time.sleep(min(_TICK, left))

    def _take_leave(self) -> list[Event]:
        """Return the last reports and the ends of trials whose jobs have ended, as Slurm says."""
        now = time.monotonic()
        for trial in self._trials.values():
            if trial.kill_at <= now:
                trial.kill()
            if trial.has_news():
                self._pause, self._ask_at = _TICK, now
        jobs = self._ask() if self._trials and now >= self._ask_at else None
        events: list[Event] = []
        for uid, trial in [] if jobs is None else [*self._trials.items()]:
            job = jobs and jobs.get(trial.id)
            if not job or job.has_ended:
                events += [(uid, event) for event in trial.read()]
                events.append((uid, trial.end(job.state if job else None, self._plan.trial_seconds)))
                del self._trials[uid]
        return events

    def _ask(self) -> dict[int, QueuedJob] | None:
        """Return the jobs of this user by id; None if Slurm does not answer, which is asked again."""
        try:
            return {job.id: job for job in commands.list_jobs()}
        except SlurmError as error:
            _log.warning("%s", error)
            return None
        finally:
            self._ask_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _RARELY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        """Cancel what is left, also what was submitted and not noted yet."""
        ids = {trial.id for trial in self._trials.values()}
        for trial in self._trials.values():
            trial.give_up()  # first: else a resume would take a cancelled job for a failed trial
        if kind is not None:
            try:
                ids |= {job.id for _, job in self._list() if not job.has_ended}
            except SlurmError as failure:
                _log.warning("%s", failure)
        if problem := commands.cancel(sorted(ids)):
            _log.warning("jobs may be left, %s: %s", " ".join(map(str, sorted(ids))), problem)


def prepare_pool(options: Options, plan: TrialPlan) -> Callable[[TrialPlan, Path, str], SlurmPool]:
    """Check that Slurm takes the trials of an experiment. Returns: what makes the pool, as ``run_trials`` wants it.

    Raises ExperimentError if an option is none of the user's, SlurmError if there is no Slurm, or it refuses them.
    """
    words = make_words(options, plan)
    commands.check(words)
    return partial(SlurmPool, words=words)


def _choose_job(mark: int | None, latest: QueuedJob | None) -> int | None:
    """Return the id of the job that runs or ran a trial; None if there is none, or it was given up.

    Args:
        mark: the id in the trial's folder. A process may have been killed before it wrote that.
        latest: the last job of the trial's name, if Slurm still knows one.
    """
    if latest is None or latest.id == mark:
        return mark
    cancelled = latest.state == "COMPLETING" or (latest.has_ended and latest.state != "COMPLETED")
    return None if cancelled else latest.id
