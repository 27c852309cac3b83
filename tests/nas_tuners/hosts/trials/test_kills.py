"""``nas run --on local`` killed at random moments: the run, its trials or both; then resumed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from nas_tuners.runs.journal import Event, read
from nas_tuners.runs.run import load
from nas_tuners.runs.warden import find_marked
from tests import processes
from tests.nas_tuners.hosts.trials.experiments import REPORT, good, write_config, write_trial
from tests.sampling import sweep

TRIALS = 12
MOMENTS = range(60)
TARGETS = ("run", "trials", "both")
JOURNAL = "out/journal.jsonl"
RUN = ("run", "config.yml", "--on", "local", "-o", "out")

pytestmark = pytest.mark.filterwarnings("ignore:.*cut short")


def write_experiment(folder: Path, concurrency: int) -> None:
    folder.mkdir()
    write_trial(folder, REPORT)
    write_config(folder, trialConcurrency=concurrency, maxTrialNumber=TRIALS)


def events(folder: Path) -> list[Event]:
    return read(folder / JOURNAL)[0]


def lines(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return (folder / JOURNAL).read_bytes().count(b"\n")
    return 0


def trials_of(folder: Path) -> list[int]:
    return find_marked(f"NAS_TRIAL_OF={load(folder / JOURNAL)[0].id}.")


def kill_at(folder: Path, target: str, rng: random.Random) -> tuple[int, int]:
    """Run an experiment or go on with it, and kill at a random line of its journal, and some milliseconds later.

    Returns: the exit code, and how many processes of trials were killed.
    """
    process = processes.start(processes.run_nas, folder, *(("resume", "out") if lines(folder) else RUN))
    line, killed = rng.randint(min(lines(folder), 2 * TRIALS) + 1, 2 * TRIALS + 1), 0
    while process.is_alive() and lines(folder) < line:
        time.sleep(0.001)
    process.join(rng.uniform(0, 0.03))
    if target != "trials" and process.is_alive():
        process.kill()
    if target != "run" and lines(folder):
        for pid in trials_of(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), (folder / "printed.txt").read_text()
    return process.exitcode, killed


@pytest.mark.parametrize("moments", sweep(MOMENTS, 2))
def test_nothing_is_lost_nothing_counts_twice_and_nothing_stays_behind(moments: list[int], tmp_path: Path) -> None:
    for moment in moments:
        rng, folder, killed = random.Random(f"killed at moment {moment}"), tmp_path / str(moment), 0
        write_experiment(folder, concurrency=3)
        for target in (TARGETS[moment % len(TARGETS)], rng.choice(TARGETS)):
            before = events(folder) if lines(folder) else []
            code, more = kill_at(folder, target, rng)
            killed += more
            assert events(folder)[: len(before)] == before
        if code:
            assert processes.run(processes.run_nas, folder, "resume", "out") == 0
        assert trials_of(folder) == []
        run, _ = load(folder / JOURNAL)
        told = [event["uid"] for event in events(folder) if event["event"] == "tell"]
        assert len(told) == len(set(told)) == run.search.counts.told
        assert run.search.counts.ended == TRIALS and run.search.counts.failed <= killed
        for trial in run.search.trials.values():
            assert trial.state != "told" or trial.score == good(run.space.decode(trial.tokens))
            assert trial.state != "failed" or "killed by SIGKILL" in str(trial.reason)


@pytest.mark.parametrize("moments", sweep(MOMENTS, 2))
def test_one_at_a_time_it_equals_the_unbroken_run(moments: list[int], tmp_path: Path) -> None:
    write_experiment(whole := tmp_path / "whole", concurrency=1)
    assert processes.run(processes.run_nas, whole, *RUN) == 0
    unbroken = (whole / JOURNAL).read_bytes().splitlines()[1:]
    assert len(unbroken) == 2 * TRIALS
    for moment in moments:
        rng, folder = random.Random(f"unbroken at moment {moment}"), tmp_path / str(moment)
        write_experiment(folder, concurrency=1)
        while lines(folder) <= len(unbroken):
            kill_at(folder, "run", rng)
        assert (folder / JOURNAL).read_bytes().splitlines()[1:] == unbroken
        assert trials_of(folder) == []
