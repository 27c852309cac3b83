"""``nas run --on ray``: the same run as on local, nodes that are lost, and what is left of a run that is killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from nas_tuners.runs.journal import read
from nas_tuners.runs.run import Run, load
from nas_tuners.runs.warden import find_marked
from tests.nas_tuners.hosts.ray.two_nodes import TwoNodes
from tests.nas_tuners.hosts.trials.experiments import REPORT, good, write_config, write_trial

RUN = ("run", "config.yml", "--on", "ray", "-o", "out")
JOURNAL = "out/journal.jsonl"
PATIENCE = 120.0  # seconds
STARTED: list[subprocess.Popen[str]] = []

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='Ray is missing: pip install "nas-tuners[ray]"'),
    pytest.mark.filterwarnings("ignore:.*cut short"),  # of a journal that is being written
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_trial(tmp_path, REPORT)
    write_config(tmp_path)
    return tmp_path


@pytest.fixture
def cluster() -> Iterator[TwoNodes]:
    with TwoNodes() as cluster:
        yield cluster


def start(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    others = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "nas_tuners.cli", *words]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    STARTED.append(subprocess.Popen(command, cwd=folder, env=others | environment, **pipes))
    return STARTED[-1]


@pytest.fixture(autouse=True)
def _end_what_was_started() -> Iterator[None]:
    """End what a test that failed has left."""
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def run_to_end(folder: Path, *words: str, code: int = 0, **environment: str) -> str:
    process = start(folder, *words, **environment)
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, printed
    return printed


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def run_in(folder: Path) -> Run:
    return load(folder / JOURNAL)[0]


def trials_of(folder: Path) -> list[int]:
    return find_marked(f"NAS_TRIAL_OF={run_in(folder).id}.")


def has_begun(folder: Path, *uids: int) -> bool:
    return all((folder / f"out/trials/{uid}/reports.jsonl").exists() for uid in uids)


def check_right(run: Run) -> None:
    for trial in run.search.trials.values():
        assert trial.state == "told" and trial.score == good(run.space.decode(trial.tokens))


def test_one_at_a_time_it_equals_a_run_on_local(folder: Path) -> None:
    printed = run_to_end(folder, *RUN)
    assert "of 6 trials" in printed and "warning" not in printed
    run_to_end(folder, "run", "config.yml", "--on", "local", "-o", "local")
    assert read(folder / JOURNAL)[0][1:] == read(folder / "local/journal.jsonl")[0][1:]
    header = read(folder / JOURNAL)[0][0]
    assert header["command"]["config"]["ray"] == {"cpus": 1} and trials_of(folder) == []
    assert "of 8 trials" in run_to_end(folder, "resume", "out", "--trials", "8")
    check_right(run_in(folder))


def test_a_lost_node_loses_no_architecture(folder: Path, cluster: TwoNodes) -> None:
    write_trial(folder, "between(0)\ntime.sleep(2 if uid < 2 else 0.1)\nreport(good)")
    retry = {"className": "nas_tuners.EvolutionTuner", "codeDirectory": ".", "classArgs": {"on_failure": "retry"}}
    write_config(folder, tuner=retry, trialConcurrency=2, maxTrialNumber=8)
    process = start(folder, *RUN, RAY_ADDRESS=cluster.address)
    wait_until(lambda: has_begun(folder, 0, 1))
    cluster.kill_second()
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, printed
    notes = [event["text"] for event in read(folder / JOURNAL)[0] if event["event"] == "note"]
    assert [note for note in notes if "is tried again: its node or worker was lost" in note], notes
    run = run_in(folder)
    assert run.search.counts.told == run.search.counts.asked == 8
    check_right(run)
    assert trials_of(folder) == []


def test_a_lost_worker_takes_its_trial_with_it_which_is_tried_again(folder: Path) -> None:
    sleep = "subprocess.Popen(['sleep', '60'], start_new_session=True)\nbetween(0)\n"
    write_trial(folder, f"{sleep}if not os.path.exists('go'): time.sleep(60)\nreport(good)")
    retry = {"className": "nas_tuners.EvolutionTuner", "codeDirectory": ".", "classArgs": {"on_failure": "retry"}}
    write_config(folder, tuner=retry)
    process = start(folder, *RUN)
    wait_until(lambda: has_begun(folder, 0))
    (folder / "go").touch()
    there = [psutil.Process(pid) for pid in trials_of(folder)]
    (worker,) = {one.parent() for one in there if "trial.py" in one.cmdline()}
    assert worker is not None and len(there) == 2
    worker.kill()
    wait_until(lambda: not any(one.is_running() for one in there))
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, printed
    notes = [event["text"] for event in read(folder / JOURNAL)[0] if event["event"] == "note"]
    assert notes == ["uid 0 failed and is tried again: its node or worker was lost: WorkerCrashedError"]
    check_right(run_in(folder))


def test_trials_stop_early_and_by_their_time(folder: Path, cluster: TwoNodes) -> None:
    body = (
        "value = (3, 1, 2, 4, 0, 5)[uid]\nbetween(value)\n"
        "try:\n    time.sleep(60 if value < 3 or uid == 5 else 0)\n"
        "except KeyboardInterrupt:\n    open(f'interrupted{uid}', 'w').close()\n    raise\n"
        "report(value)"
    )
    write_trial(folder, body)
    tuner = {"className": "nas_tuners.RandomTuner", "codeDirectory": ".", "classArgs": {"early_stopping": "asha"}}
    assessor = {"className": "nas_tuners.SearchAssessor", "codeDirectory": "."}
    write_config(folder, tuner=tuner, assessor=assessor, maxTrialDuration="5s")
    run_to_end(folder, *RUN, RAY_ADDRESS=cluster.address)
    trials = run_in(folder).search.trials.values()
    assert [t.state for t in trials] == ["told", "stopped", "stopped", "told", "stopped", "stopped"]
    assert [t.score for t in trials] == [3, 1, 2, 4, 0, 5]
    assert {path.name for path in folder.glob("interrupted*")} == {f"interrupted{uid}" for uid in (1, 2, 4, 5)}
    assert trials_of(folder) == []


def test_failures_are_told_with_their_reasons(folder: Path, cluster: TwoNodes) -> None:
    body = "if uid == 1: raise ValueError('too deep')\nif uid == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
    write_trial(folder, f"{body}print(os.environ['CUDA_VISIBLE_DEVICES'])\nreport(good)")
    run_to_end(folder, *RUN, RAY_ADDRESS=cluster.address)
    reasons = [trial.reason for trial in run_in(folder).search.trials.values()]
    assert reasons == [None, "ValueError: too deep", "killed by SIGKILL", None, None, None]
    write_config(folder, trialCommand="cd . && no_such_command")
    printed = run_to_end(folder, *RUN[:-1], "other", code=1, RAY_ADDRESS=cluster.address)
    assert "no_such_command: command not found" in printed and len(printed.splitlines()) <= 3


@pytest.mark.parametrize("where", ["own", "shared"])
def test_nothing_is_left_of_a_run_that_is_killed(where: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """With its trials goes whatever they have started, also in sessions of their own, and a cluster of its own."""
    address = {"RAY_ADDRESS": request.getfixturevalue("cluster").address} if where == "shared" else {}
    sleep = "subprocess.Popen(['sleep', '60'], start_new_session=True)\nbetween(0.5)\n"
    write_trial(folder, f"{sleep}if not os.path.exists('go'): time.sleep(60)\nreport(good)")
    write_config(folder, trialConcurrency=2, maxTrialNumber=3)
    process = start(folder, *RUN, **address)
    wait_until(lambda: has_begun(folder, 0, 1))
    own, there = psutil.Process(process.pid).children(recursive=True), trials_of(folder)
    assert len(there) == 4
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(psutil.pid_exists, there)))
    assert trials_of(folder) == []
    _, alive = psutil.wait_procs(own, timeout=PATIENCE)  # Ray's own take up to a minute
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    (folder / "go").touch()
    assert "of 3 trials" in run_to_end(folder, "resume", "out", **address)
    check_right(run_in(folder))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_to_go_on(number: signal.Signals, folder: Path) -> None:
    write_trial(folder, "between(0)\nif uid == 2: time.sleep(60)\nreport(good)")
    process = start(folder, *RUN)
    wait_until(lambda: has_begun(folder, 2))
    own = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert printed.splitlines()[-1] == (
        f"nas: interrupted after 2 of 6 trials; nothing is lost. Go on with: nas resume {folder / 'out'}"
    )
    assert trials_of(folder) == []
    _, alive = psutil.wait_procs(own, timeout=PATIENCE)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
