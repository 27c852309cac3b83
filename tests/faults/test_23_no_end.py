"""Fault 23: a trial that hangs, and signals that end a search."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from nas_tuners.runs.journal import read
from nas_tuners.runs.loop import run_search
from nas_tuners.runs.run import Run, load
from nas_tuners.search import RandomSearch
from search_spaces import Space
from tests import processes
from tests.nas_tuners import functions
from tests.nas_tuners.nas import Nas
from tests.nas_tuners.runs.test_loop import SEARCH, gone, nas, waited, write_space
from tests.spaces import SPACES

SPACE = Space.from_json(SPACES["20 x 4"])
HERE = "tests.nas_tuners.functions"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_that_hangs_has_failed_and_is_ended_with_what_it_started(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run.start(RandomSearch(seed=3), SPACE)
    run_search(run, f"{HERE}:hangs_at_times", 20, workers, trial_timeout=0.5)
    for trial in run.search.trials.values():
        hung = functions.good(SPACE.decode(trial.tokens)) in (2, 3)
        assert trial.state == ("failed" if hung else "told")
        assert not hung or trial.reason == "it took longer than the limit of 0.5 s for a trial"
    pids = [int(file.suffix[1:]) for file in tmp_path.glob("hanging.*")]
    assert len(pids) == 2 * run.search.counts.failed > 0
    assert not any(psutil.pid_exists(pid) and processes.is_there(psutil.Process(pid)) for pid in pids)


@pytest.mark.parametrize("limit", [0, -1, float("nan"), "3", True])
def test_a_limit_is_a_number_above_0(limit: float) -> None:
    with pytest.raises(ValueError, match=r"trial_timeout is .*, wanted a number above 0"):
        run_search(Run.start(RandomSearch(), SPACE), functions.good, 3, trial_timeout=limit)


@pytest.mark.slow
def test_the_limit_of_a_command_is_kept_for_its_resume(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Nas(capfd, monkeypatch)
    write_space(tmp_path)
    words = (*SEARCH, "--evaluate", f"{HERE}:hangs_at_times", "--trials", "5", "--trial-timeout")
    assert "--trial-timeout is 0.0, wanted a number above 0" in call(*words, "0", cwd=tmp_path, code=1)
    call(*words, "0.5", cwd=tmp_path)
    call("resume", "run", "--trials", "20", cwd=tmp_path)
    run, header = load(tmp_path / "run/journal.jsonl")
    assert header["command"]["trial_timeout"] == 0.5
    assert {trial.reason for trial in run.search.trials.values()} >= {
        "it took longer than the limit of 0.5 s for a trial"
    }


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP], ids=lambda how: how.name)
def test_signals_end_a_search_as_ctrl_c_does(how: signal.Signals, workers: int, tmp_path: Path) -> None:
    write_space(tmp_path)
    words = [*SEARCH, "--evaluate", f"{HERE}:slow", "--workers", str(workers)]
    process = nas(tmp_path, [sys.executable, "-m", "nas_tuners.cli", *words])
    files = waited(lambda: (found := list(tmp_path.glob("running.*"))) and len(found) == workers and found)
    pids = [int(file.suffix[1:]) for file in files]
    for pid in {process.pid, *pids}:  # as a service manager does: to all of them
        with contextlib.suppress(psutil.NoSuchProcess):  # a worker that the search has already ended
            psutil.Process(pid).send_signal(how)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + how
    assert "interrupted after 0 of 100 trials; nothing is lost. Go on with: nas resume run" in err
    assert "Traceback" not in err
    waited(lambda: all(gone(pid) for pid in pids))
    kinds = [event["event"] for event in read(tmp_path / "run/journal.jsonl")[0]]
    assert kinds == ["header", *["ask"] * workers]


@pytest.mark.slow
def test_nohup_is_respected(tmp_path: Path) -> None:
    write_space(tmp_path)
    words = [*SEARCH, "--evaluate", f"{HERE}:takes_its_time", "--trials", "40"]
    process = nas(tmp_path, ["nohup", sys.executable, "-m", "nas_tuners.cli", *words])
    waited(lambda: (tmp_path / "run/journal.jsonl").exists())
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_an_error_that_ends_a_search_says_how_to_go_on(tmp_path: Path) -> None:
    """Here the function cannot be imported any more once it runs in a worker."""
    write_space(tmp_path)
    (tmp_path / "own.py").write_text(
        "import multiprocessing\nassert multiprocessing.parent_process() is None\ndef f(choices):\n    return 1.0\n"
    )
    words = [*SEARCH, "--evaluate", "own:f", "--workers", "2"]
    command = [sys.executable, "-m", "nas_tuners.cli", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
    assert "ended after 0 of 100 trials; nothing is lost. Go on with: nas resume run" in done.stderr
    assert json.loads((tmp_path / "run/journal.jsonl").read_text().splitlines()[0])["event"] == "header"
