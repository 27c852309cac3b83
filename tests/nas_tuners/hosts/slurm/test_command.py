"""``nas run --on slurm``: what it checks and keeps, how it fails, and how it goes on after it was killed."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from nas_tuners.hosts.slurm import commands, pool
from nas_tuners.runs.journal import read
from nas_tuners.runs.run import load
from tests import processes
from tests.nas_tuners.hosts.trials.experiments import REPORT, good, write_config, write_trial
from tests.nas_tuners.nas import Nas
from tests.sampling import sweep

pytestmark = pytest.mark.slow  # processes that run beside others take half a second each

RUN = ("run", "config.yml", "--on", "slurm", "-o", "out")
JOURNAL = "out/journal.jsonl"
TRIALS = 8
MOMENTS = range(60)


@pytest.fixture
def folder(tmp_path: Path, fake_slurm: Path) -> Path:
    write_trial(tmp_path, REPORT)
    write_config(tmp_path, maxTrialNumber=2)
    return tmp_path


def check_failed(printed: str, *wanted: str) -> None:
    assert len(printed.splitlines()) <= 3, printed
    for text in wanted:
        assert text in printed


def test_a_resume_asks_for_the_same_as_the_run(nas: Nas, folder: Path, fake_slurm: Path) -> None:
    service = {"platform": "local", "useActiveGpu": False}
    write_config(folder, maxTrialNumber=2, maxTrialDuration="90s", trialGpuNumber=1, trainingService=service)
    assert "of 2 trials" in nas(*RUN, "--slurm", "partition=gpu", "--slurm", "exclusive", cwd=folder)
    assert load(folder / JOURNAL)[1]["command"]["config"]["slurm"] == {"partition": "gpu", "exclusive": None}
    assert "of 3 trials" in nas("resume", "out", "--trials", "3", "--trial-timeout", "150", cwd=folder)
    *first, last = [words for words in (fake_slurm / "calls").read_text().splitlines() if "--parsable" in words]
    assert "--requeue --time=2 --gres=gpu:1 --partition=gpu --exclusive --job-name=" in first[0]
    assert "--requeue --time=3 --gres=gpu:1 --partition=gpu --exclusive --job-name=" in last


@pytest.mark.parametrize(
    ("changes", "words", "wanted"),
    [
        ({}, ["--slurm", "partition=gone"], "Slurm does not take such a job: sbatch: error: invalid partition"),
        ({}, ["--slurm", "wrap=true"], "--slurm wrap: nas run says that itself"),
        ({}, ["--slurm=-p=gpu"], "wanted a long option of sbatch without dashes, such as partition=gpu"),
        ({}, ["--port", "8080"], "--port is for --on nni: --on slurm has none"),
        ({"trialCommand": "no_such_python trial.py"}, [], "there is no command 'no_such_python'"),
        ({"authorName": "me", "maxTrialNum": 9}, [], "is a configuration of NNI 1"),
        ({"trialConcurrency": 0}, [], "trialConcurrency is 0, wanted a whole number from 1 up"),
    ],
)
def test_what_cannot_be_run(changes: dict[str, Any], words: list[str], wanted: str, nas: Nas, folder: Path) -> None:
    write_config(folder, **changes)
    check_failed(nas(*RUN, *words, cwd=folder, code=1), wanted)
    assert not (folder / "out").exists() and commands.list_jobs() == []


def test_no_slurm(nas: Nas, folder: Path, fake_slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake_slurm / "squeue").unlink()
    real = str(shutil.which("python3")), str(shutil.which("bash"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(fake_slurm), *(str(Path(path).parent) for path in real)]))
    if shutil.which("squeue") is None:
        check_failed(nas(*RUN, cwd=folder, code=1), "there is no squeue on the PATH: --on slurm wants a machine")
    monkeypatch.setenv("PATH", str(folder))
    check_failed(nas(*RUN, cwd=folder, code=1), "there is no sbatch and no squeue and no scancel on the PATH")
    check_failed(nas("run", "config.yml", "--slurm", "mem=1G", cwd=folder, code=1), "--slurm is for --on slurm, not")


def test_a_job_that_slurm_refuses_later_ends_the_run(nas: Nas, folder: Path, fake_slurm: Path) -> None:
    refuse = "open(os.environ['FAKE_SLURM'] + '/broken-sbatch', 'w').write('Job violates accounting policy\\n')"
    write_trial(folder, f"if uid: {refuse}\nelse: time.sleep(60)\nreport(1)")
    write_config(folder, trialConcurrency=2)
    printed = nas(*RUN, cwd=folder, code=1)
    check_failed(
        printed, "cannot be submitted: sbatch: error: Job violates accounting policy", "Go on with: nas resume"
    )
    assert [job.state for job in commands.list_jobs()] == ["CANCELLED", "COMPLETED"]


def run_impatiently(folder: Path, *words: str) -> None:
    """Be the command ``nas``, and look after jobs often: to be called in a new process."""
    pool._TICK = 0.02
    processes.run_nas(folder, *words)


def lines(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return (folder / JOURNAL).read_bytes().count(b"\n")
    return 0


def kill_at(folder: Path, rng: random.Random) -> int | None:
    """Run an experiment or go on with it, and kill it at a random line of its journal, and some milliseconds later."""
    words = ("resume", "out") if lines(folder) else RUN
    process = processes.start(in_this_environment, dict(os.environ), folder, *words)
    line = rng.randint(min(lines(folder), 2 * TRIALS) + 1, 2 * TRIALS + 1)
    while process.is_alive() and lines(folder) < line:
        time.sleep(0.001)
    process.join(rng.uniform(0, 0.1))
    process.kill()
    process.join()
    return process.exitcode


def in_this_environment(environment: dict[str, str], folder: Path, *words: str) -> None:
    os.environ.update(environment)
    run_impatiently(folder, *words)


def write_experiment(place: Path, concurrency: int) -> Path:
    place.mkdir()
    write_trial(place, f"open(f'begun{{uid}}', 'a').write('x')\n{REPORT}")
    write_config(place, trialConcurrency=concurrency, maxTrialNumber=TRIALS)
    return place


def finish(place: Path) -> list[bytes]:
    """Run an experiment or go on with it to its end. Returns: its journal but for the header."""
    words = ("resume", "out") if lines(place) else RUN
    code = processes.run(in_this_environment, dict(os.environ), place, *words)
    assert code == 0, (place / "printed.txt").read_text()
    return (place / JOURNAL).read_bytes().splitlines()[1:]


@pytest.mark.slow
@pytest.mark.parametrize("moments", sweep(MOMENTS, 4))
def test_a_killed_run_loses_nothing_and_counts_nothing_twice(moments: list[int], folder: Path) -> None:
    unbroken = finish(write_experiment(folder / "unbroken", 1))
    for moment in moments:
        rng, concurrency = random.Random(f"killed at moment {moment}"), 1 + 2 * (moment % 2)
        place = write_experiment(folder / str(moment), concurrency)
        kill_at(place, rng)
        kill_at(place, rng)
        journal = finish(place)
        assert concurrency > 1 or journal == unbroken
        run, _ = load(place / JOURNAL)
        told = [event["uid"] for event in read(place / JOURNAL)[0] if event["event"] == "tell"]
        assert len(told) == len(set(told)) == run.search.counts.told == run.search.counts.asked == TRIALS
        for trial in run.search.trials.values():
            assert trial.score == good(run.space.decode(trial.tokens))
            assert (place / f"begun{trial.uid}").read_text() == "x"  # no job was started twice
        assert all(job.has_ended for job in commands.list_jobs())
