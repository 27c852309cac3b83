"""Mend what NNI's database says of the trials that a resume of an experiment runs again.

NNI runs again every trial that had not ended, with the parameters that it *meant* to give it. Those went to another
trial often enough, one that has its result already. A trial of a resume that failed it never runs again.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from nas_tuners.hosts.nni.manager import ENDED
from nas_tuners.runs.importing import uid_in

_AGAIN = ("WAITING", "RUNNING", "ADD_RESUMED")


def mend_jobs(database: Path, pending: Iterable[Mapping[str, object]]) -> int:
    """Let NNI run again only what is pending, and each of it once; its manager must have ended.

    Args:
        database: the experiment's ``nni.sqlite``.
        pending: the parameters of the trials without a result, with their ``_uid``. More than NNI had jobs for: the
            tuner hands out the rest.

    Returns: how many jobs were given other parameters, or none.

    Raises:
        sqlite3.Error: it cannot be read or written; it is as it was.
    """
    left = {uid_in(parameters): parameters for parameters in pending}
    with closing(sqlite3.connect(database)) as connection, connection:
        jobs = _find_jobs(connection)
        wrong = [job for job, record in jobs.items() if left.pop(uid_in(record.get("parameters")), None) is None]
        for job in wrong:
            if not left:
                _cancel(connection, job)
                continue
            data = json.dumps({**jobs[job], "parameters": left.pop(next(iter(left)))})
            connection.execute("update TrialJobEvent set data = ? where trialJobId = ? and data > ''", (data, job))
        for job in jobs:  # by this event alone NNI would leave them
            connection.execute("delete from TrialJobEvent where trialJobId = ? and event = 'ADD_RESUMED'", (job,))
    return len(wrong)


def _find_jobs(connection: sqlite3.Connection) -> dict[str, dict[str, object]]:
    """Return what the jobs that have not ended were meant to run, but for those that a user has added by hand."""
    states: dict[str, str] = {}
    records: dict[str, dict[str, object]] = {}
    rows = connection.execute("select trialJobId, event, data from TrialJobEvent where trialJobId > '' order by rowid")
    for job, event, data in rows:
        if event in (*_AGAIN, *ENDED, "UNKNOWN", "USER_TO_CANCEL"):
            states[job] = event
        if data and job not in records:
            records[job] = json.loads(data)
    again = [job for job, state in states.items() if state in _AGAIN]
    return {job: records[job] for job in again if records.get(job, {}).get("parameter_id") is not None}


def _cancel(connection: sqlite3.Connection, job: str) -> None:
    event = "insert into TrialJobEvent (timestamp, trialJobId, event) values (?, ?, 'SYS_CANCELED')"
    connection.execute(event, (int(1000 * time.time()), job))
