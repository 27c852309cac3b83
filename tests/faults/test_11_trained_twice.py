"""Fault 11: after a resume every trial without a result is run once more, and no other one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nas_tuners import AnnealingTuner, SearchTuner
from nas_tuners.hosts.nni.database import mend_jobs
from tests.faults.manager import FakeManager, fake_manager
from tests.spaces import layer

SPACE = {f"k{i}": layer("a", "b", "c") for i in range(4)}


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeManager]:
    folder = tmp_path / "abc123" / "checkpoint"
    folder.mkdir(parents=True)
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(folder))
    with fake_manager(monkeypatch) as fake:
        yield fake


def started() -> SearchTuner:
    tuner = AnnealingTuner(seed=3)
    tuner.load_checkpoint()
    tuner.update_search_space(SPACE)
    return tuner


@pytest.mark.parametrize("concurrency", [1, 2, 4, 8])
def test_fault_11_what_nni_runs_again_is_not_handed_out_in_the_same_batch(
    manager: FakeManager, concurrency: int
) -> None:
    tuner = started()
    sent = tuner.generate_multiple_parameters(list(range(concurrency)))
    tuner._on_exit()
    for number, parameters in enumerate(sent):
        manager.add(f"j{number}", "ADD_RESUMED", (number, parameters), ran=number)
    tuner = started()
    ids = list(range(concurrency, 2 * concurrency))
    new = tuner.generate_multiple_parameters(ids)
    assert [parameters["_uid"] for parameters in new] == ids
    for job in manager.jobs:  # NNI starts them, and then one that it was given now
        job["status"] = "RUNNING"
    manager.add("new", "RUNNING", (ids[0], new[0]), ran=ids[0])
    (later,) = tuner.generate_multiple_parameters([2 * concurrency])
    assert later["_uid"] == 2 * concurrency


def make_database(path: Path, events: list[tuple[str, str, Any]]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        columns = "timestamp, trialJobId, event, data, logPath, sequenceId, message, environmentId"
        connection.execute(f"create table TrialJobEvent ({columns})")
        rows = [(job, event, None if data is None else json.dumps(data)) for job, event, data in events]
        connection.executemany("insert into TrialJobEvent (trialJobId, event, data) values (?, ?, ?)", rows)


def meant(number: int | None, uid: int | None) -> dict[str, Any]:
    return {"parameter_id": number, "parameter_source": "algorithm", "parameters": {"_uid": uid, "k": uid}}


def resumed(path: Path) -> dict[str, tuple[str, Any]]:
    """By job, its state and the uid that it would run, as NNI reads its events."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("select trialJobId, event, data from TrialJobEvent order by rowid").fetchall()
    jobs: dict[str, tuple[str, Any]] = {}
    for job, event, data in rows:
        known = jobs.get(job, ("", None))[1]
        jobs[job] = (event, json.loads(data)["parameters"]["_uid"] if data and known is None else known)
    return jobs


def test_fault_11_nni_runs_again_what_is_pending_and_not_what_it_meant_to_run(tmp_path: Path) -> None:
    """Jobs a and b ran each other's parameters; a has ended, so that 5 is pending, but b is noted under 6."""
    database = tmp_path / "nni.sqlite"
    make_database(
        database,
        [
            *(("a", "WAITING", meant(5, 5)), ("a", "RUNNING", None), ("a", "SUCCEEDED", None)),
            *(("b", "WAITING", meant(6, 6)), ("b", "RUNNING", None)),
            *(("c", "WAITING", meant(7, 7)), ("c", "RUNNING", None)),
            *(("d", "WAITING", meant(8, 8)), ("d", "RUNNING", None), ("d", "ADD_RESUMED", None)),
            *(("e", "WAITING", meant(9, 1)), ("e", "RUNNING", None)),
            *(("own", "WAITING", meant(None, None)),),
            *(("gone", "WAITING", meant(4, 4)), ("gone", "USER_TO_CANCEL", None), ("gone", "USER_CANCELED", None)),
        ],
    )
    assert mend_jobs(database, [{"_uid": uid, "k": uid} for uid in (5, 7, 8)]) == 2
    assert resumed(database) == {
        "a": ("SUCCEEDED", 5),
        "b": ("RUNNING", 5),
        "c": ("RUNNING", 7),
        "d": ("RUNNING", 8),
        "e": ("SYS_CANCELED", 1),
        "own": ("WAITING", None),
        "gone": ("USER_CANCELED", 4),
    }
    assert mend_jobs(database, [{"_uid": uid, "k": uid} for uid in (5, 7, 8)]) == 0
