"""Read and mend what NNI's database says of the trials of an experiment whose manager has ended.

On a resume NNI runs again every trial that had not ended, with the parameters that it *meant* to give it. Those went to
another trial often enough, one that has its result already. A trial that had reported its result without being noted as
ended runs again as well; one of a resume that failed never does.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas_tuners.hosts.nni.manager import ENDED, Job, read_parameters, to_id
from nas_tuners.runs.importing import decode_metric, uid_in

_AGAIN = ("WAITING", "RUNNING", "ADD_RESUMED")
_STATES = (*_AGAIN, *ENDED, "UNKNOWN", "USER_TO_CANCEL")


def read_jobs(database: Path) -> list[Job]:
    """Return the trial jobs of an experiment in the order of their start, without those that a user added by hand.

    Args:
        database: the experiment's ``nni.sqlite``.

    Raises:
        sqlite3.Error: it cannot be read.
        ValueError: it holds what NNI does not write.
    """
    with closing(sqlite3.connect(database)) as connection:
        return _read_jobs(connection)


def read_config(database: Path) -> dict[str, Any]:
    """Return the configuration of an experiment, as NNI writes it out.

    Raises:
        sqlite3.Error: it cannot be read.
        ValueError: it holds none.
    """
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        row = connection.execute("select params from ExperimentProfile order by revision desc limit 1").fetchone()
    config = json.loads(row[0]) if row else None
    if not isinstance(config, dict) or "trainingService" not in config:
        raise ValueError(f"{database} holds no configuration of an experiment of NNI 3")
    return config


def mend_jobs(database: Path, pending: Iterable[Mapping[str, object]]) -> int:
    """Let NNI run again only what is pending, and each of it once; its manager must have ended.

    Args:
        database: the experiment's ``nni.sqlite``.
        pending: the parameters of the trials without a result, with their ``_uid``. More than NNI had jobs for: the
            tuner hands out the rest.

    Returns: how many jobs were given other parameters, or none.

    Raises:
        sqlite3.Error: it cannot be read or written; it is as it was.
        ValueError: it holds what NNI does not write.
    """
    left = {uid_in(parameters): parameters for parameters in pending}
    with closing(sqlite3.connect(database)) as connection, connection:
        jobs = [job for job in _read_jobs(connection) if job.status in _AGAIN]
        again = [job for job in jobs if job.final_id is None]
        wrong = [job for job in again if left.pop(uid_in(job.parameters), None) is None]
        for job in jobs:
            if job not in again:
                _end(connection, job, "SUCCEEDED")  # it has reported its result
        for job in wrong:
            if left:
                _give(connection, job, left.pop(next(iter(left))))
            else:
                _end(connection, job, "SYS_CANCELED")
        for job in again:  # by this event alone NNI would leave them
            connection.execute("delete from TrialJobEvent where trialJobId = ? and event = 'ADD_RESUMED'", (job.id,))
    return len(wrong)


def _read_jobs(connection: sqlite3.Connection) -> list[Job]:
    jobs: dict[str, Job] = {}
    rows = connection.execute("select trialJobId, event, data from TrialJobEvent where trialJobId > '' order by rowid")
    for job, event, data in rows:
        known = jobs.setdefault(job, Job(job, ""))
        status = event if event in _STATES else known.status
        number, parameters = (known.parameter_id, known.parameters) if known.parameters else read_parameters(data)
        jobs[job] = replace(known, status=status, parameter_id=number, parameters=parameters)
    metrics = "select trialJobId, parameterId, data from MetricData where type = 'FINAL' order by rowid"
    for job, number, value in connection.execute(metrics):
        if job in jobs:
            jobs[job] = replace(jobs[job], final_id=to_id(number), final_value=decode_metric(value))
    return [job for job in jobs.values() if job.parameter_id is not None]


def _give(connection: sqlite3.Connection, job: Job, parameters: Mapping[str, object]) -> None:
    """Note a job under other parameters."""
    data = json.dumps({"parameter_id": job.parameter_id, "parameter_source": "algorithm", "parameters": parameters})
    connection.execute("update TrialJobEvent set data = ? where trialJobId = ? and data > ''", (data, job.id))


def _end(connection: sqlite3.Connection, job: Job, state: str) -> None:
    event = "insert into TrialJobEvent (timestamp, trialJobId, event) values (?, ?, ?)"
    connection.execute(event, (int(1000 * time.time()), job.id, state))
