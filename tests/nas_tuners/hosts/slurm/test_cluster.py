"""``nas run --on slurm`` on a real Slurm of one machine: jobs that are cancelled and requeued, runs that are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nas_tuners.runs.journal import read
from nas_tuners.runs.run import Run, load
from tests.nas_tuners.hosts.slurm import cluster
from tests.nas_tuners.hosts.trials.experiments import REPORT, good, write_config, write_trial
from tests.nas_tuners.nas import Nas

WHY_NOT = cluster.missing()
RUN = ("run", "config.yml", "--on", "slurm", "-o", "out")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """A cluster for the tests of this file, in a folder whose name is short enough for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, cluster.running(Path(folder)) as environment:
        yield environment


@pytest.fixture(autouse=True)
def on_the_cluster(slurm: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nas_tuners.cli", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    printed, _ = process.communicate()
    assert process.returncode == code, printed
    return printed


def wait_for(happened: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    while not happened():
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def call(*words: str) -> str:
    return subprocess.check_output(words, text=True)


def job_of(folder: Path, uid: int) -> str:
    return (folder / f"out/trials/{uid}/job").read_text().strip()


def left() -> list[str]:
    """Return the jobs that are queued or running."""
    return call("squeue", "--noheader", "--format=%i").split()


def check_results(folder: Path, trials: int) -> Run:
    """Check that nothing counts twice, that each result is of its architecture, and that no job is left."""
    run, _ = load(folder / "out/journal.jsonl")
    told = [event["uid"] for event in read(folder / "out/journal.jsonl")[0] if event["event"] == "tell"]
    assert len(told) == len(set(told)) == run.search.counts.told
    assert run.search.counts.ended == trials
    for trial in run.search.trials.values():
        assert trial.state != "told" or trial.score == good(run.space.decode(trial.tokens))
    wait_for(lambda: not left())
    return run


def test_one_job_is_cancelled_and_one_requeued(tmp_path: Path) -> None:
    body = "open(f'begun{uid}', 'a').write('x')\nif uid in (1, 3) and not os.path.exists('go'): time.sleep(60)\n"
    write_trial(tmp_path, f"{body}between(good / 2)\n{REPORT}")
    write_config(tmp_path, trialConcurrency=4, maxTrialNumber=12, maxTrialDuration="2m")
    process = start(tmp_path, *RUN, "--slurm", "partition=main", "--slurm", "cpus-per-task=1")
    wait_for(lambda: all((tmp_path / f"begun{uid}").exists() for uid in (1, 3)), process)
    cancelled, requeued = job_of(tmp_path, 1), job_of(tmp_path, 3)
    assert "TimeLimit=00:02:00" in call("scontrol", "show", "job", requeued)
    call("scontrol", "requeue", requeued)
    wait_for(lambda: "PENDING" in call("squeue", "--noheader", "--format=%T", "--jobs", requeued))
    call("scontrol", "update", f"JobId={requeued}", "StartTime=now+2")  # else it waits for two minutes
    call("scancel", cancelled)
    (tmp_path / "go").touch()
    assert "of 12 trials" in finish(process)
    run = check_results(tmp_path, 12)
    states = {uid: trial.state for uid, trial in run.search.trials.items()}
    assert [uid for uid, state in states.items() if state != "told"] == [1] and states[1] == "failed"
    assert run.search.trials[1].reason == f"Slurm has ended its job {cancelled}: CANCELLED"
    assert ((tmp_path / "begun3").read_text(), job_of(tmp_path, 3)) == ("xx", requeued)


def test_a_run_that_is_killed_leaves_jobs_which_a_resume_takes_over(tmp_path: Path) -> None:
    body = "open(f'begun{uid}', 'a').write('x')\nwhile not os.path.exists('go') and uid > 1: time.sleep(0.05)\n"
    write_trial(tmp_path, body + REPORT)
    write_config(tmp_path, trialConcurrency=2, maxTrialNumber=6)
    process = start(tmp_path, *RUN)
    wait_for(lambda: all((tmp_path / f"begun{uid}").exists() for uid in (2, 3)), process)
    process.kill()
    process.communicate()
    there = left()
    assert len(there) == 2
    resumed = start(tmp_path, "resume", "out")
    time.sleep(1)
    (tmp_path / "go").touch()
    assert "of 6 trials" in finish(resumed)
    run = check_results(tmp_path, 6)
    assert run.search.counts.told == run.search.counts.asked == 6
    assert [(tmp_path / f"begun{uid}").read_text() for uid in range(6)] == ["x"] * 6
    assert {job_of(tmp_path, 2), job_of(tmp_path, 3)} == set(there)


def test_ctrl_c_cancels_the_jobs_and_a_resume_runs_them_again(tmp_path: Path) -> None:
    write_trial(tmp_path, f"open('begun', 'a').write('x')\nif not os.path.exists('go'): time.sleep(60)\n{REPORT}")
    write_config(tmp_path, maxTrialNumber=1)
    process = start(tmp_path, *RUN)
    wait_for((tmp_path / "begun").exists, process)
    process.send_signal(signal.SIGINT)
    printed = finish(process, 128 + signal.SIGINT)
    assert printed.splitlines()[-1].endswith(
        f"after 0 of 1 trials; nothing is lost. Go on with: nas resume {tmp_path / 'out'}"
    )
    wait_for(lambda: not left())
    (tmp_path / "go").touch()
    assert "of 1 trials" in finish(start(tmp_path, "resume", "out"))
    assert check_results(tmp_path, 1).search.counts.told == 1
    assert (tmp_path / "begun").read_text() == "xx"


def test_the_tuners_own_rule_stops_jobs(nas: Nas, tmp_path: Path) -> None:
    write_trial(tmp_path, "value = (3, 1)[uid]\nbetween(value)\nif value < 3: time.sleep(60)\nreport(value)")
    tuner = {"className": "nas_tuners.RandomTuner", "codeDirectory": ".", "classArgs": {"early_stopping": "asha"}}
    assessor = {"className": "nas_tuners.SearchAssessor", "codeDirectory": "."}
    write_config(tmp_path, tuner=tuner, assessor=assessor, maxTrialNumber=2)
    nas(*RUN, cwd=tmp_path)
    run, _ = load(tmp_path / "out/journal.jsonl")
    assert [trial.state for trial in run.search.trials.values()] == ["told", "stopped"]
    assert "second result" not in (tmp_path / "out/journal.jsonl").read_text()
    assert "KeyboardInterrupt" in (tmp_path / "out/trials/1/trial.stderr").read_text()


PLAIN = """
import nni

choices = nni.get_next_parameter()
nni.report_intermediate_result(0.5)
nni.report_final_result({"default": choices["k0"]["_idx"], "trial": nni.get_trial_id()})
"""


def test_a_plain_trial_of_nni(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "trial.py").write_text(PLAIN)
    write_config(tmp_path, trialCommand=f"{sys.executable} trial.py", maxTrialNumber=2, trialConcurrency=2)
    nas(*RUN, cwd=tmp_path)
    run, _ = load(tmp_path / "out/journal.jsonl")
    for trial in run.search.trials.values():
        choices, metrics = run.space.decode(trial.tokens), dict(trial.metrics or {})
        assert metrics == {"default": choices["k0"]["_idx"], "trial": f"{run.id}-{trial.uid}"}


def test_what_slurm_refuses(nas: Nas, tmp_path: Path) -> None:
    write_trial(tmp_path, REPORT)
    write_config(tmp_path)
    printed = nas(*RUN, "--slurm", "partition=gone", cwd=tmp_path, code=1)
    assert len(printed.splitlines()) <= 3 and "invalid partition specified: gone" in printed
    assert not (tmp_path / "out").exists()
