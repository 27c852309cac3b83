"""Run trials side by side, and wait for what they report and for their ends."""

from __future__ import annotations

import math
import secrets
import selectors
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from nas_tuners.hosts.trials.gpus import Gpus
from nas_tuners.hosts.trials.plan import TrialPlan
from nas_tuners.hosts.trials.process import Ended, Restarted, TrialProcess
from nas_tuners.hosts.trials.protocol import Report
from nas_tuners.runs import warden

TRIALS = "trials"  # in the folder of a run: a folder for each trial, by its uid
_MARK = "NAS_TRIAL_OF"  # in the environment of a trial and of all that it starts
Event = tuple[int, Report | Ended | Restarted]
"""What has happened to the trial of a uid."""


class Stoppable(Protocol):
    """A trial that runs somewhere. ``stopped``: why it was interrupted, None if it was not."""

    stopped: str | None

    def stop(self, reason: str) -> None:
        """Interrupt it."""


_Trial = TypeVar("_Trial", bound=Stoppable)


class HoldsTrials(Generic[_Trial]):
    """Know the trials that are under way by their uids, and interrupt them: what pools have in common."""

    def __init__(self) -> None:
        self._trials: dict[int, _Trial] = {}

    @property
    def running(self) -> int:
        """Return how many trials are under way."""
        return len(self._trials)

    def has(self, uid: int) -> bool:
        """Return whether a trial is still there, with or without a result."""
        return uid in self._trials

    def is_stopped(self, uid: int) -> bool:
        """Return whether a trial is there and was interrupted."""
        return self.has(uid) and self._trials[uid].stopped is not None

    def stop(self, uid: int, reason: str) -> None:
        """Interrupt a trial, if it is still there; ``reason`` is why, should it have no result."""
        if self.has(uid):
            self._trials[uid].stop(reason)


class Pool(HoldsTrials[TrialProcess]):
    """The trials of a run that are under way. Use it as a context: whatever is left of them ends with it.

    They end with this process too, however that ends: a second one waits for its end, and sees to it.

    Args:
        plan: what to run.
        folder: of the run.
        run: its id. What an earlier process of this run has left is ended first.
    """

    def __init__(self, plan: TrialPlan, folder: Path, run: str) -> None:
        super().__init__()
        self._plan, self._folder = plan, folder.absolute() / TRIALS
        warden.end_marked(f"{_MARK}={run}.")
        self._mark = f"{_MARK}={run}.{secrets.token_hex(4)}."
        self._warden = self._start_warden()
        self._selector = selectors.DefaultSelector()
        wanted = plan.gpus_per_trial or 0
        self._gpus = Gpus(plan.gpus, wanted, plan.trials_per_gpu)

    @property
    def has_room(self) -> bool:
        """Return whether one more trial may start now."""
        return self.running < self._plan.concurrency and self._gpus.has_room

    def take_over(self, pending: Collection[int]) -> list[int]:
        """Return the uids of trials that an earlier process has left: none, since they ended with it."""
        return []

    def start(self, uid: int, parameters: Mapping[str, Any]) -> None:
        """Start a trial, for which there is room. Raises TrialError if it cannot be started."""
        if self._warden.poll() is not None:  # somebody has killed it
            self._dismiss_warden()
            self._warden = self._start_warden()
        gpus = None if self._plan.gpus_per_trial is None else self._gpus.take()
        command, code, folder = self._plan.command, self._plan.folder, self._folder / str(uid)
        trial = TrialProcess(uid, command, code, folder, parameters, gpus, f"{self._mark}{uid}.")
        self._trials[uid] = trial
        for descriptor in (trial.pipe, trial.sentinel):
            self._selector.register(descriptor, selectors.EVENT_READ, trial)

    def wait(self, timeout: float = math.inf) -> list[Event]:
        """Return what happens next, a trial's reports before its end; nothing after ``timeout`` seconds."""
        now = time.monotonic()
        until = min([timeout, *(self._due(trial) - now for trial in self._trials.values())])
        ready = self._selector.select(None if until == math.inf else max(until, 0.0))
        ended = {key.data.uid for key, _ in ready if key.fd == key.data.sentinel}
        events: list[Event] = []
        for uid in sorted({key.data.uid for key, _ in ready}):
            events += [(uid, report) for report in self._trials[uid].read()]
            if uid in ended:
                events += self._take_leave(uid)
        self._end_late()
        return events

    def _due(self, trial: TrialProcess) -> float:
        """Return when something has to be done about a trial."""
        limit = self._plan.trial_seconds
        return trial.kill_at if trial.stopped is not None or limit is None else trial.started + limit

    def _end_late(self) -> None:
        now = time.monotonic()
        for trial in self._trials.values():
            if self._due(trial) > now:
                continue
            if trial.stopped is not None:
                trial.kill()
            else:
                trial.stop(f"it took longer than maxTrialDuration, {self._plan.trial_seconds:g} s")

    def _take_leave(self, uid: int) -> list[Event]:
        trial = self._trials.pop(uid)
        for descriptor in (trial.pipe, trial.sentinel):
            self._selector.unregister(descriptor)
        if trial.gpus is not None:
            self._gpus.give_back(trial.gpus)
        reports, ended = trial.end()
        return [*((uid, report) for report in reports), (uid, ended)]

    def _start_warden(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-I", "-S", warden.__file__, self._mark]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)

    def _dismiss_warden(self) -> None:
        """Let it end what is left of the trials, and wait for that."""
        assert self._warden.stdin is not None
        self._warden.stdin.close()
        self._warden.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._dismiss_warden()
        for trial in self._trials.values():
            trial.end()
        self._selector.close()
