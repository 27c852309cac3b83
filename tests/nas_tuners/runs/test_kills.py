"""``nas search`` killed at random moments: the search, its group, a worker or all of them, idle or busy."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from nas_tuners.runs.journal import read
from nas_tuners.runs.run import load
from tests import processes
from tests.nas_tuners import functions
from tests.nas_tuners.runs.test_loop import HERE, SEARCH, write_space
from tests.sampling import sweep

TRIALS = 24
TARGETS = ("search", "group", "worker", "workers")
MOMENTS = range(100)


def words(workers: int) -> tuple[str, ...]:
    more = ("--trials", str(TRIALS), "--seed", "5", "--workers", str(workers))
    return (*SEARCH, "--evaluate", f"{HERE}:takes_its_time", *more)


def run_in_a_group(folder: Path, *command: str) -> None:
    os.setsid()
    processes.run_nas(folder, *command)


def lines(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return (folder / "run/journal.jsonl").read_bytes().count(b"\n")
    return 0


def hit(process: BaseProcess, target: str) -> int:
    """Kill. Returns: how many workers, if the search itself is left alone."""
    assert process.pid is not None
    if target == "search":
        process.kill()
    elif target == "group":
        with contextlib.suppress(ProcessLookupError):  # it has no group yet, or has just ended
            os.killpg(process.pid, signal.SIGKILL)
            return 0
        process.kill()
    else:
        workers = processes.workers_of(process.pid)[: 1 if target == "worker" else None]
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        return len(workers)
    return 0


def kill_at(moment: int, folder: Path, workers: int, target: str, rng: random.Random) -> tuple[list[Any], int, bool]:
    """Run a search or go on with it, and kill at a random line of the journal and some milliseconds later.

    Returns: the journal's events then, how many workers were killed, and whether the search was ended.
    """
    begun = lines(folder) > 0
    process = processes.start(run_in_a_group, folder, *(("resume", "run") if begun else words(workers)))
    line, later = rng.randint(min(lines(folder), 2 * TRIALS) + 1, 2 * TRIALS + 1), rng.uniform(0, 0.03)
    while process.is_alive() and lines(folder) < line:
        time.sleep(0.002)
    time.sleep(later)
    killed = hit(process, target) if process.is_alive() else 0
    there = read(folder / "run/journal.jsonl")[0]
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), (folder / "printed.txt").read_text()
    return there, killed, process.exitcode != 0


@pytest.mark.filterwarnings("ignore:.*cut short")
def check_killed(moment: int, tmp_path: Path) -> None:
    rng = random.Random(f"killed at moment {moment}")
    folder, killed = tmp_path / f"killed.{moment}", 0
    folder.mkdir()
    write_space(folder)
    for target in (TARGETS[moment % len(TARGETS)], rng.choice(TARGETS)):
        before, more, ended = kill_at(moment, folder, 2, target, rng)
        killed += more
        assert read(folder / "run/journal.jsonl")[0][: len(before)] == before
        if not ended:
            break
    else:
        assert processes.run(processes.run_nas, folder, "resume", "run") == 0
    run, _ = load(folder / "run/journal.jsonl")
    assert run.search.counts.told + run.search.counts.failed == TRIALS
    assert run.search.counts.failed <= killed
    for trial in run.search.trials.values():
        assert trial.state != "told" or trial.score == functions.good(run.space.decode(trial.tokens))
        assert trial.state != "failed" or "its worker process died" in str(trial.reason)


@pytest.mark.filterwarnings("ignore:.*cut short")
@pytest.mark.parametrize("moments", sweep(MOMENTS, 3))
def test_nothing_told_is_lost_and_no_pair_is_wrong(moments: list[int], tmp_path: Path) -> None:
    for moment in moments:
        check_killed(moment, tmp_path)


@pytest.mark.filterwarnings("ignore:.*cut short")
@pytest.mark.parametrize("moments", sweep(MOMENTS, 3))
def test_one_worker_equals_the_unbroken_run(moments: list[int], tmp_path: Path) -> None:
    (whole := tmp_path / "whole").mkdir()
    write_space(whole)
    assert processes.run(processes.run_nas, whole, *words(1)) == 0
    unbroken = read(whole / "run/journal.jsonl")[0]
    assert len(unbroken) == 1 + 2 * TRIALS
    for moment in moments:
        rng = random.Random(f"unbroken at moment {moment}")
        (folder := tmp_path / f"broken.{moment}").mkdir()
        write_space(folder)
        while lines(folder) < len(unbroken):
            before, _, _ = kill_at(moment, folder, 1, rng.choice(TARGETS[:2]), rng)
            assert before == [before[0], *unbroken[1 : len(before)]]
        assert read(folder / "run/journal.jsonl")[0][1:] == unbroken[1:]
