"""Fault 21: a search goes on with fresh workers when its workers are killed, idle or busy, one or all of them."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from nas_tuners.runs.loop import run_search
from nas_tuners.runs.run import Run
from nas_tuners.search import RandomSearch
from search_spaces import Space
from tests import processes
from tests.nas_tuners import functions
from tests.spaces import SPACES

SPACE = Space.from_json(SPACES["20 x 4"])
HERE = "tests.nas_tuners.functions"


def start() -> Run:
    return Run.start(RandomSearch(seed=3), SPACE)


def kill_all() -> int:
    workers = processes.workers_of(os.getpid())
    for worker in workers:
        worker.kill()
    return len(workers)


def test_a_worker_that_is_killed_while_idle_costs_no_trial() -> None:
    """With one worker, it is idle whenever a result was just told."""
    killed: dict[int, int] = {}

    def kill_some(run: Run) -> None:
        told = run.search.counts.told
        if told in (1, 2, 5) and told not in killed:
            killed[told] = kill_all()

    run = start()
    run_search(run, f"{HERE}:good", 8, workers=1, on_progress=kill_some, trial_timeout=600)
    assert list(killed.values()) == [1, 1, 1]
    assert [trial.score for trial in run.search.trials.values()] == [
        functions.good(SPACE.decode(trial.tokens)) for trial in run.search.trials.values()
    ]
    assert run.search.counts.told == 8


@pytest.mark.slow
def test_all_workers_killed_at_once_again_and_again() -> None:
    killed: dict[int, int] = {}

    def kill_some(run: Run) -> None:
        told = run.search.counts.told
        if told % 10 == 9 and told not in killed:
            killed[told] = kill_all()

    run = start()
    run_search(run, f"{HERE}:takes_its_time", 40, workers=2, on_progress=kill_some)
    assert len(killed) >= 3
    assert run.search.counts.told + run.search.counts.failed == 40
    assert run.search.counts.failed <= sum(killed.values())
    for trial in run.search.trials.values():
        assert trial.state == "failed" or trial.score == functions.good(SPACE.decode(trial.tokens))
        assert trial.state == "told" or "its worker process died" in str(trial.reason)


@pytest.mark.slow
def test_a_busy_worker_that_is_killed_is_noticed_though_its_own_child_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child holds every pipe that its parent held; it is ended as well."""
    monkeypatch.chdir(tmp_path)

    def kill_busy(_: Run) -> None:
        for file in tmp_path.glob("running.*"):
            file.unlink()
            psutil.Process(int(file.suffix[1:])).kill()

    run = start()
    run_search(run, f"{HERE}:forks_and_waits", 3, workers=2, on_progress=kill_busy)
    assert run.search.counts.failed == 3
    children = [int(file.suffix[1:]) for file in tmp_path.glob("forked.*")]
    assert len(children) == 3
    assert not any(psutil.pid_exists(pid) and processes.is_there(psutil.Process(pid)) for pid in children)
