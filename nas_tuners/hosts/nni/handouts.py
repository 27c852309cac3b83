"""Keep account of the proposals that NNI was given. It reports that a trial has ended, but often the wrong one."""

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
    """The proposals that this tuner process has given to NNI, and those to give once more."""

    def __init__(self) -> None:
        self.again: deque[int] = deque()  # uids to give once more
        self.ended = 0  # number of trials that have ended
        self._uids: dict[int, int] = {}  # by NNI's parameter id, which is unique in this process only
        self._out: dict[int, None] = {}  # uids without a result, in order
        self._before: list[int] = []  # uids that were pending when this process began

    def take_over(self, pending: Iterable[int]) -> None:
        """Remember the uids that an earlier process gave to NNI and that have no result."""
        self._before = list(pending)

    def give(self, parameter_id: int, uid: int) -> None:
        """Record that a trial gets ``uid``, under an id that NNI has chosen."""
        self._uids[parameter_id] = uid
        self._out[uid] = None

    def take_back(self, uid: int) -> None:
        """Record that there is a result for ``uid``."""
        self._out.pop(uid, None)

    def uid_of(self, parameter_id: int) -> int | None:
        """Return the uid that was given under an id of NNI's."""
        return self._uids.get(parameter_id)

    @property
    def is_idle(self) -> bool:
        """Return whether all trials that this process gave to NNI have ended."""
        return self.ended >= len(self._uids)

    def drop_lost(self) -> list[int]:
        """Return and forget the uids without a result, if no trial is left that could be running them.

        Call it when NNI asks for a trial, which it does after it has delivered the results of those that ended.
        """
        if not self.is_idle:
            return []
        lost, self._out = list(self._out), {}
        return lost

    def reclaim(self, pending: Callable[[int], bool]) -> None:
        """Queue for giving again, after a resume, the uids that were pending and that NNI does not run again itself.

        NNI re-runs the jobs that were running, by its own records, which often name the wrong parameters. ``pending``
        says whether a uid still has no result.
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


def uid_in(*values: Any) -> int | None:
    """Return the uid inside the first of these parameters or metrics that has one."""
    uids = (value.get("_uid") for value in values if isinstance(value, Mapping))
    return next((int(uid) for uid in uids if is_int(uid)), None)


def _parameters_of(job: Mapping[str, Any]) -> list[Any]:
    """Return the parameters that NNI has recorded for a job."""
    packed = job.get("hyperParameters") or []
    records = [json.loads(one) if isinstance(one, str) else one for one in packed]
    return [record.get("parameters") for record in records if isinstance(record, dict)]
