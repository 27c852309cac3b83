"""Run the trials of an experiment as Ray tasks, and wait for what they report and for their ends."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nas_tuners.hosts.ray.cluster import check, connect
from nas_tuners.hosts.ray.node import run_trial
from nas_tuners.hosts.trials.plan import TrialPlan
from nas_tuners.hosts.trials.pool import TRIALS, Event
from nas_tuners.hosts.trials.process import ERR, Ended, TrialError

_PATIENCE = 10.0  # seconds for cancelled tasks to end


class RayPool:
    """The trials of a run that are under way on a cluster, to which this process connects.

    Use it as a context: whatever is left of them ends with it. They end with this process too, however that ends: Ray
    ends the tasks of a driver that is gone.

    Args:
        plan: what to run.
        folder: of the run; the nodes see it under the same path.
        run: its id.
        cpus: of a trial.
    """

    def __init__(self, plan: TrialPlan, folder: Path, run: str, cpus: int = 1) -> None:
        self._plan, self._cpus = plan, cpus
        self._folder, self._run = folder.absolute(), run
        self._tasks: dict[int, Any] = {}
        self._stopped: dict[int, str] = {}  # why, by uid

    def __enter__(self) -> Self:
        import ray

        self._connection = ExitStack()
        self._connection.enter_context(connect(self._plan, self._cpus))
        gpus = _count_gpus(self._plan)
        self._ray = ray
        self._task = ray.remote(num_returns="streaming", max_retries=0, num_cpus=self._cpus, num_gpus=gpus)(run_trial)
        return self

    @property
    def running(self) -> int:
        """Return how many trials are under way, or wait for a node."""
        return len(self._tasks)

    @property
    def has_room(self) -> bool:
        """Return whether one more trial may start now."""
        return self.running < self._plan.concurrency

    def take_over(self, pending: Collection[int]) -> list[int]:
        """Return the uids of trials that an earlier process has left: none, since they ended with it."""
        return []

    def start(self, uid: int, parameters: Mapping[str, Any]) -> None:
        """Start a trial, on whichever node has room for it first."""
        name = f"nas trial {uid}"
        task = self._task.options(name=name).remote(self._plan, self._folder, self._run, uid, dict(parameters))
        self._tasks[uid] = task

    def has(self, uid: int) -> bool:
        """Return whether a trial is still there, with or without a result."""
        return uid in self._tasks

    def is_stopped(self, uid: int) -> bool:
        """Return whether a trial is there and was interrupted."""
        return uid in self._stopped

    def stop(self, uid: int, reason: str) -> None:
        """Interrupt a trial, if it is still there. What it reports from now on is not heard."""
        if self.has(uid) and not self.is_stopped(uid):
            self._stopped[uid] = reason
            self._ray.cancel(self._tasks[uid])

    def wait(self, timeout: float = math.inf) -> list[Event]:
        """Return what happens next, a trial's reports before its end; nothing after ``timeout`` seconds."""
        tasks, limit = list(self._tasks.values()), None if timeout == math.inf else max(timeout, 0.0)
        if not tasks or not self._ray.wait(tasks, timeout=limit)[0]:
            return []
        ready, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=0)
        uids = [uid for uid, task in self._tasks.items() if task in ready]
        return [event for uid in uids for event in self._read(uid)]

    def _read(self, uid: int) -> list[Event]:
        """Return what a task has yielded, or how it ended."""
        exceptions = self._ray.exceptions
        try:
            events: list[Event] = self._ray.get(next(self._tasks[uid]))
        except (StopIteration, exceptions.TaskCancelledError):
            events = [(uid, self._end(uid, "its task was cancelled"))]
        except exceptions.RayTaskError as error:
            raise TrialError(f"trial {uid} cannot be run on its node: {_last_line(error)}") from None
        except exceptions.LocalRayletDiedError:  # so would all others fail, whatever they train
            raise TrialError("the cluster's node on this machine has ended, and with it all trials") from None
        except exceptions.RayError as error:
            events = [(uid, self._end(uid, f"its node or worker was lost: {type(error).__name__}"))]
        if isinstance(events[-1][1], Ended):
            del self._tasks[uid]
            self._stopped.pop(uid, None)
        return events

    def _end(self, uid: int, lost: str) -> Ended:
        """Return the end of a trial that could not tell of it."""
        stopped = self._stopped.get(uid)
        log = self._folder / TRIALS / str(uid) / ERR
        return Ended(-signal.SIGKILL, log, stopped, None if stopped else lost)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        with self._connection:
            for task in self._tasks.values():
                self._ray.cancel(task, force=True)
            if ends := [task.completed() for task in self._tasks.values()]:
                self._ray.wait(ends, num_returns=len(ends), timeout=_PATIENCE)


def prepare_pool(options: Mapping[str, int], plan: TrialPlan) -> Callable[[TrialPlan, Path, str], RayPool]:
    """Check that Ray takes the trials of an experiment. Returns: what makes the pool, as ``run_trials`` wants it.

    Raises ClusterError if there is no Ray, or no such cluster, or ``cpus`` of the options is no number of CPUs.
    """
    check(options["cpus"])
    return partial(RayPool, cpus=options["cpus"])


def _count_gpus(plan: TrialPlan) -> float:
    """Return the GPUs that Ray keeps for a task: a part of one, where trials share it."""
    wanted = plan.gpus_per_trial or 0
    return 1 / plan.trials_per_gpu if wanted == 1 else wanted


def _last_line(error: BaseException) -> str:
    return str(error).strip().rpartition("\n")[2]
