"""Fault 11: after a resume every trial without a result is run once more, and no other one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nas_tuners import AnnealingTuner, SearchTuner
from nas_tuners.hosts.nni.database import mend_jobs, read_jobs
from nas_tuners.hosts.nni.manager import find_uids
from nas_tuners.hosts.nni.results import settle_kept
from nas_tuners.runs.run import Run
from nas_tuners.search.random import RandomSearch
from search_spaces import Space
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


def make_database(path: Path, events: list[tuple[str, str, Any]], metrics: Sequence[tuple[str, int, Any]] = ()) -> None:
    """Write what NNI would: ``metrics`` are jobs, the parameter ids of what they ran, and their final metrics."""
    with closing(sqlite3.connect(path)) as connection, connection:
        columns = "timestamp, trialJobId, event, data, logPath, sequenceId, message, environmentId"
        connection.execute(f"create table TrialJobEvent ({columns})")
        rows = [(job, event, None if data is None else json.dumps(data)) for job, event, data in events]
        connection.executemany("insert into TrialJobEvent (trialJobId, event, data) values (?, ?, ?)", rows)
        connection.execute("create table MetricData (timestamp, trialJobId, parameterId text, type, sequence, data)")
        final = [(job, str(number), json.dumps(json.dumps(value))) for job, number, value in metrics]
        insert = "insert into MetricData (trialJobId, parameterId, type, data) values (?, ?, 'FINAL', ?)"
        connection.executemany(insert, final)


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


def test_fault_11_a_result_that_nni_kept_and_no_tuner_saw_is_no_trial_to_run_again(tmp_path: Path) -> None:
    """Of two processes of the tuner, whose parameter ids are the same; in the second, a and b ran each other's."""
    run = Run.start(RandomSearch(seed=1), Space.from_json(SPACE), path=tmp_path / "journal.jsonl")
    of = {proposal.uid: {**proposal.parameters, "_uid": proposal.uid, "_run": run.id} for proposal in run.ask(8)}

    def given(number: int, uid: int) -> dict[str, Any]:
        return {"parameter_id": number, "parameters": of[uid]}

    run.tell(0, 0.5, job="first")
    run.tell(1, 0.6, job="second")
    make_database(
        tmp_path / "nni.sqlite",
        [
            *(("first", "RUNNING", given(0, 0)), ("first", "SUCCEEDED", None)),
            *(("second", "RUNNING", given(1, 1)), ("second", "SUCCEEDED", None)),
            *(("a", "RUNNING", given(0, 2)), ("a", "SUCCEEDED", None)),
            *(("b", "RUNNING", given(1, 3)),),  # it had reported, but NNI had not seen it end
            *(("c", "RUNNING", given(2, 4)),),
            *(("failed", "RUNNING", given(3, 5)), ("failed", "SUCCEEDED", None)),
            *(("foreign", "RUNNING", given(4, 6)), ("foreign", "SUCCEEDED", None)),
        ],
        [
            *(("first", 0, 0.5), ("second", 1, 0.6), ("a", 1, 0.7), ("b", 0, 0.8), ("failed", 3, float("nan"))),
            ("foreign", 4, {"default": 0.9, "_uid": 6, "_run": "another"}),
        ],
    )
    jobs = read_jobs(tmp_path / "nni.sqlite")
    assert find_uids(jobs) == {"first": 0, "second": 1, "a": 3, "b": 2, "failed": 5, "foreign": 6}
    assert settle_kept(run, jobs) == 2
    assert settle_kept(run, jobs) == 0
    told = {trial.uid: (trial.score, trial.job) for trial in run.search.trials.values() if trial.state == "told"}
    assert told == {0: (0.5, "first"), 1: (0.6, "second"), 3: (0.7, "a"), 2: (0.8, "b")}
    assert [proposal.uid for proposal in run.search.pending] == [4, 5, 6, 7]
    assert mend_jobs(tmp_path / "nni.sqlite", [of[uid] for uid in (4, 5, 6, 7)]) == 0
    states = {job.id: job.status for job in read_jobs(tmp_path / "nni.sqlite")}
    assert states["b"] == "SUCCEEDED" and states["c"] == "RUNNING"
    run.close()
