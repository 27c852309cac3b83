"""``nas run`` under NNI: on a busy machine, interrupted, with a tuner that fails; nothing of it stays behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas_tuners.hosts.nni.launch import Launched
from nas_tuners.runs.run import load
from tests.experiments.nni_experiment import BIN, Experiment, end_processes, expected, processes_of

pytestmark = pytest.mark.slow

FAILING = """
import os
from nas_tuners import SearchTuner
from nas_tuners.search import RandomSearch


class Failing(SearchTuner):
    def __init__(self):
        if os.environ.get("SDK_PROCESS") == "dispatcher":
            raise ValueError("no licence for this machine")
        super().__init__(RandomSearch())
"""


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep the machine busy with so many processes."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def written(home: Path, **config: object) -> Iterator[Experiment]:
    """Yield an experiment that is not started, and end whatever runs of it."""
    experiment = Experiment(home / "home", **config)  # type: ignore[arg-type]
    try:
        yield experiment
    finally:
        end_processes(experiment.home)


def nas_run(experiment: Experiment) -> subprocess.Popen[str]:
    words = [str(BIN / "nas"), "run", "config.yml", "--port", str(experiment.port)]
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(words, cwd=experiment.code, env=experiment.env, text=True, **both)  # type: ignore[call-overload, no-any-return]


def test_it_comes_up_on_a_busy_machine_runs_to_the_end_and_is_stopped(tmp_path: Path) -> None:
    with written(tmp_path, maxTrialNumber=1, trialConcurrency=1) as experiment, busy(2):
        process = nas_run(experiment)
        said, _ = process.communicate()
        assert process.returncode == 0, said
        assert processes_of(experiment.home) == []
        experiment.id = re.findall(r"^experiment (\w+): ", said)[0]
        run, _ = load(experiment.journal)
        assert f"of {run.search.counts.ended} trials" in said and f"nas show {experiment.id}" in said
        assert run.search.counts.told >= 1
        for trial in run.search.trials.values():
            assert trial.state != "told" or trial.score == expected(run.space.decode(trial.tokens))


def test_interrupted_it_is_stopped_and_says_how_to_go_on(tmp_path: Path) -> None:
    with written(tmp_path, maxTrialNumber=60) as experiment:
        process = nas_run(experiment)
        assert process.stdout is not None
        said = ""
        while "best" not in said:
            said += process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said += process.communicate()[0]
        experiment.id = re.findall(r"^experiment (\w+): ", said)[0]
        assert process.returncode == 128 + signal.SIGINT
        assert said.rstrip().endswith(f"Go on with: nas resume {experiment.id}")
        assert processes_of(experiment.home) == [] and experiment.told() > 0


def test_a_tuner_that_fails_is_told_in_three_lines(tmp_path: Path) -> None:
    tuner = {"className": "failing.Failing", "codeDirectory": "."}
    with written(tmp_path, tuner=tuner) as experiment:
        (experiment.code / "failing.py").write_text(FAILING)
        process = nas_run(experiment)
        lines = process.communicate()[0].splitlines()
        assert process.returncode == 1 and len(lines) == 3
        assert lines[0] == "nas: the tuner failed: ValueError: no licence for this machine"
        assert "failing.py, line 10" in lines[1]
        assert "dispatcher.log; mend that, and start it again" in lines[2]
        assert processes_of(experiment.home) == []


@pytest.mark.nightly
@pytest.mark.alone
def test_it_comes_up_ten_times_of_ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas_tuners.commands.checks.configuration import load_config

    with written(tmp_path, maxTrialNumber=60) as experiment, busy(8):
        monkeypatch.setenv("HOME", str(experiment.home))
        monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
        config = load_config(experiment.code / "config.yml")
        for _ in range(10):
            with Launched(config, experiment.port) as launched:
                assert launched.manager.status()[0] == "RUNNING"
        assert processes_of(experiment.home) == []
