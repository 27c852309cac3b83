"""Which proposals NNI has. It says that a trial has ended, but not truly which; so only the numbers are believed."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nas_tuners.hosts.nni.manager import Manager, ManagerError
from search_spaces.checks import is_int

_log = logging.getLogger("nas_tuners")


class Handouts:
    """What was handed out by this process, what of it may be lost, and what is to be handed out once more."""

    def __init__(self) -> None:
        self.again: deque[int] = deque()  # uids to hand out once more
        self.ended = 0  # trials that have ended, whichever they were
        self._uids: dict[int, int] = {}  # parameter id, unique in this process only -> uid
        self._out: dict[int, None] = {}  # uids that have no result yet
        self._before: list[int] = []  # uids that were pending when this process began

    def begin(self, pending: Iterable[int]) -> None:
        """Remember what an earlier process has handed out and not seen again."""
        self._before = list(pending)

    def give(self, parameter_id: int, uid: int) -> None:
        """A trial is to get ``uid``, under an id that NNI has chosen."""
        self._uids[parameter_id] = uid
        self._out[uid] = None

    def back(self, uid: int) -> None:
        """There is a result for ``uid``."""
        self._out.pop(uid, None)

    def uid_of(self, parameter_id: int) -> int | None:
        """The uid that was given under an id of NNI's."""
        return self._uids.get(parameter_id)

    @property
    def idle(self) -> bool:
        """Whether every trial that this process has handed out has ended."""
        return self.ended >= len(self._uids)

    def lost(self) -> list[int]:
        """Return, once, the uids that have no result although no trial is left that could be running them.

        To be called when NNI asks for a trial, which it does after it has delivered the results of those that ended.
        """
        if not self.idle:
            return []
        lost, self._out = list(self._out), {}
        return lost

    def reclaim(self, pending: Callable[[int], bool]) -> None:
        """After a resume: hand out again what was pending before, except what NNI itself is running again.

        NNI re-runs the jobs that were running by its forms, and those name the wrong parameters as often as not.

        Args:
            pending: whether a uid still has no result.
        """
        manager = Manager.of_tuner()
        self._before = [uid for uid in self._before if pending(uid)]
        if not self._before or manager is None:
            return
        # Jobs to be run again stay ADD_RESUMED until the first batch was requested, those of a failed resume for ever.
        live = ("WAITING", "RUNNING", "UNKNOWN") + (() if self._uids else ("ADD_RESUMED",))
        try:
            jobs = [job for job in manager.trial_jobs() if job.get("status") in live]
        except ManagerError as error:
            _log.warning("cannot tell which trials NNI runs again: %s", error)
            return
        running = {uid_in(parameters) for job in jobs for parameters in _parameters_of(job)}
        self.again.extend(uid for uid in self._before if uid not in running)
        self._before = [uid for uid in self._before if uid in running]


def uid_in(value: Any) -> int | None:
    """The uid that parameters, or a metric, carry."""
    uid = value.get("_uid") if isinstance(value, Mapping) else None
    return int(uid) if is_int(uid) else None


def _parameters_of(job: Mapping[str, Any]) -> list[Any]:
    """The parameters that NNI has on its form for a job."""
    packed = job.get("hyperParameters") or []
    records = [json.loads(one) if isinstance(one, str) else one for one in packed]
    return [record.get("parameters") for record in records if isinstance(record, dict)]
