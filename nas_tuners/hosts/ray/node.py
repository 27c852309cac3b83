"""Run one trial on a node of a cluster, as a Ray task does: a process that speaks NNI's protocol of local trials."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas_tuners.hosts.trials.plan import TrialPlan
from nas_tuners.hosts.trials.pool import Event, Pool
from nas_tuners.hosts.trials.process import Ended
from nas_tuners.runs import warden

_LOOK = 0.2  # seconds between two looks whether the task was cancelled: Ray interrupts no system call
_DETACHED = '{ "$0" "$@" <&3 & wait; } 3<&0'


class NodePool(Pool):
    """The one trial of a task. Its warden is no child of Ray's worker, which kills its children when it ends."""

    def _start_warden(self) -> subprocess.Popen[bytes]:
        words = ["/bin/bash", "-c", _DETACHED, sys.executable, "-I", "-S", warden.__file__, self._mark]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)


def run_trial(
    plan: TrialPlan, folder: Path, run: str, uid: int, parameters: Mapping[str, Any]
) -> Iterator[list[Event]]:
    """Run a trial, and yield what it reports and how it ended, as it happens. Cancelling the task interrupts it.

    The trial ends with the task, however that ends, with all that it has started. Raises TrialError if it cannot be
    started.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # Ray blocks it, and the trial would inherit that
    here = replace(plan, concurrency=1, gpus_per_trial=None)  # Ray has chosen the GPUs
    with NodePool(here, folder, f"{run}.{uid}") as pool:
        pool.start(uid, parameters)
        try:
            while pool.running:
                if events := [_complete(event) for event in pool.wait(_LOOK)]:
                    yield events
        except (KeyboardInterrupt, GeneratorExit):  # cancelled, here or while Ray was sending what was yielded
            pool.stop(uid, "cancelled")
            while pool.running:
                pool.wait(_LOOK)
            raise


def _complete(event: Event) -> Event:
    """Write the reason of a failure into the end of a trial, here where its log is."""
    uid, what = event
    return (uid, replace(what, broken=what.reason)) if isinstance(what, Ended) and what.stopped is None else event
