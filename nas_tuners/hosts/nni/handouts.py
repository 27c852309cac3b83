"""Keep account of the proposals that NNI was given. It reports that a trial has ended, but often the wrong one."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable

from nas_tuners.hosts.nni.manager import Manager, ManagerError
from nas_tuners.runs.importing import uid_in

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
        try:
            jobs = manager.trial_jobs()
        except ManagerError as error:
            _log.warning("cannot tell which trials NNI runs again: %s", error)
            return
        # Jobs to be run again are ADD_RESUMED until NNI starts them, which it does before any that it is given now:
        # once it has started one of these, an ADD_RESUMED job is of a resume that failed, and nobody runs it.
        given = any((job.parameter_id, uid_in(job.parameters)) in self._uids.items() for job in jobs)
        live = ("WAITING", "RUNNING", "UNKNOWN") + (() if given else ("ADD_RESUMED",))
        running = {uid_in(job.parameters) for job in jobs if job.status in live}
        self.again.extend(uid for uid in self._before if uid not in running)
        self._before = [uid for uid in self._before if uid in running]
