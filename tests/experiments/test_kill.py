"""SIGKILL of an experiment's processes, then ``nas resume``: nothing told is lost, nothing is trained twice."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.nni_experiment import TRIAL, Experiment, expected, processes_of
from tests.sampling import SEED

pytestmark = pytest.mark.slow

SPACE = {
    "k0": {"_type": "layer_choice", "_value": ["a", "b", "c"]},
    **{f"k{i}": {"_type": "layer_choice", "_value": ["a", "b"]} for i in (1, 2)},
}
KILLED = ("manager", "dispatcher", "both")

# Notes which uids are trained, and by which jobs.
NOTING = """
with open({starts!r}, "a") as file:
    file.write(f"{{choices['_uid']}} {{nni.get_trial_id()}}\\n")
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Any]]]:
    """What became of an experiment for each of ``KILLED``. They mostly wait, so they run side by side."""
    with ThreadPoolExecutor(len(KILLED)) as pool:
        yield {killed: pool.submit(kill_and_resume, tmp_path_factory.mktemp(killed), killed) for killed in KILLED}


def note_starts(starts: Path) -> str:
    """Return a trial that notes in a file that it has begun."""
    take, report = TRIAL.split("keys =")
    return take + NOTING.format(starts=str(starts)) + "keys =" + report


def starts_in(starts: Path) -> list[tuple[int, str]]:
    """Return the uid and the job of each start of a trial."""
    words = starts.read_text().split()
    return [(int(uid), job) for uid, job in zip(words[::2], words[1::2], strict=True)]


def assert_none_reported_twice(experiment: Experiment, starts: Path) -> None:
    """No architecture has two results: one whose result NNI has kept is not run again, whoever has seen that."""
    with closing(sqlite3.connect(experiment.folder / "db" / "nni.sqlite")) as connection:
        reports = Counter(job for (job,) in connection.execute("select trialJobId from MetricData"))
    ran = {job: uid for uid, job in starts_in(starts)}  # by its last start, since it has one report at most
    assert set(reports.values()) == {1}
    assert set(Counter(ran[job] for job in reports).values()) == {1}


def kill_and_resume(folder: Path, killed: str) -> tuple[str, dict[str, Any], dict[str, Any], list[int]]:
    """Returns: what ``nas resume`` printed, what ``nas show`` says before it and at the end, and the uids run since."""
    starts = folder / "starts"
    trial = note_starts(starts)
    with Experiment(folder / "home", SPACE, trial, maxTrialNumber=100, trialConcurrency=4) as experiment:
        experiment.wait(lambda: experiment.told() >= 5)
        if killed in ("manager", "both"):
            experiment.kill_manager()
        if killed in ("dispatcher", "both"):
            experiment.kill_dispatcher()
        before = experiment.show()
        experiment.wait(lambda: not processes_of(experiment.home, "trial.py"))  # those that outlive their manager
        earlier = len(starts_in(starts))
        said = experiment.resume()
        experiment.wait_until_done()
        begun = starts_in(starts)
        assert_none_reported_twice(experiment, starts)
        return said, before, experiment.show(), [uid for uid, _ in begun[earlier:]]


@pytest.mark.parametrize("killed", KILLED)
def test_a_killed_experiment_goes_on_where_it_was(outcomes: dict[str, Future[Any]], killed: str) -> None:
    said, first, last, started = outcomes[killed].result()
    print(said)
    before, after = _results(first), _results(last)
    print("run since the resume:", started)
    assert len(set(started)) == len(started) and not set(started) & set(before)
    assert last["counts"]["duplicate"] == 0
    assert len(before) >= 5
    assert {uid: after[uid] for uid in before} == before
    # Every architecture of the space has one result, and the right one.
    assert last["counts"]["told"] == len(after) == 12
    assert last["counts"]["pending"] == last["counts"]["failed"] == 0
    assert all(trial["metrics"]["default"] == expected(trial["choices"]) for trial in last["trials"])


@pytest.mark.nightly
def test_killed_at_twenty_moments(tmp_path: Path) -> None:
    """Of one experiment the manager, the tuner, both or the trials, again and again, whenever the seed says."""
    draw, starts = random.Random(SEED), tmp_path / "starts"
    space = {f"k{i}": {"_type": "layer_choice", "_value": ["a", "b", "c"]} for i in range(5)}
    with Experiment(
        tmp_path / "home", space, note_starts(starts), maxTrialNumber=500, trialConcurrency=4
    ) as experiment:
        known, began = dict[int, float](), 0
        for moment in range(20):
            more = experiment.told() + draw.randint(1, 3)
            experiment.wait(lambda more=more: experiment.told() >= more)
            time.sleep(draw.uniform(0, 2))  # no event: the moment is drawn
            killed = draw.choice([*KILLED, "trials"])
            print(moment, killed, len(known))
            if killed in ("manager", "both"):
                experiment.kill_manager()
            if killed in ("dispatcher", "both"):
                experiment.kill_dispatcher()
            if killed != "trials":
                experiment.wait(lambda: not processes_of(experiment.home, "trial.py"))
            begun = starts_in(starts)
            since, began = {uid for uid, _ in begun[began:]}, len(begun)
            if killed == "trials":  # what was killed may be run again
                for process in processes_of(experiment.home, "trial.py"):
                    process.kill()
            after = _results(experiment.show())
            assert not since & set(known)  # none is trained twice
            assert_none_reported_twice(experiment, starts)
            assert {uid: after[uid] for uid in known} == known  # nothing told is lost
            if killed != "trials":
                known = after
                experiment.resume()
        last = experiment.show()
        assert last["counts"]["duplicate"] == 0
        told = [trial for trial in last["trials"] if trial["state"] == "told"]
        assert len(told) >= 20
        assert all(trial["metrics"]["default"] == expected(trial["choices"]) for trial in told)  # no pair is wrong


def _results(shown: dict[str, Any]) -> dict[int, float]:
    return {trial["uid"]: trial["metrics"]["default"] for trial in shown["trials"] if trial["state"] == "told"}
