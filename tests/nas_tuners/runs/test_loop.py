"""Searches without NNI: killed, interrupted, with workers that die, and functions that fail."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from nas_tuners.runs.evaluation import EvaluateError, NamedFunction
from nas_tuners.runs.journal import Journal, read
from nas_tuners.runs.loop import run_search
from nas_tuners.runs.run import Run
from nas_tuners.runs.workers import WorkerError
from nas_tuners.search import Annealing, Evolution, RandomSearch, Search
from search_spaces import Space
from tests import processes
from tests.nas_tuners import functions
from tests.spaces import SPACES

WIDE = Space.from_json(SPACES["20 x 4"])
HERE = "tests.nas_tuners.functions"
SEARCHES: dict[str, Callable[[], Search]] = {
    "random": lambda: RandomSearch(seed=5),
    "annealing": lambda: Annealing(init_temperature=3.0, seed=5),
    "evolution": lambda: Evolution(candidate_pool_size=6, candidate_top_k=3, seed=5),
}


def told(run: Run) -> dict[int, float]:
    return {trial.uid: trial.score for trial in run.search.trials.values() if trial.state == "told"}


def facts(run: Run) -> list[tuple[Any, ...]]:
    """All that is known of the trials; the metrics as text, since NaN is not equal to itself."""
    trials = run.search.trials.values()
    return [(t.uid, t.tokens, t.state, t.score, str(t.metrics), t.reason, t.resolved) for t in trials]


class DiesAt(Journal):
    """Is killed with SIGKILL right after its n-th event."""

    left = 0

    def append(self, event: dict[str, Any]) -> None:
        super().append(event)
        DiesAt.left -= 1
        if DiesAt.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("name", SEARCHES)
def test_killed_at_random_events_again_and_again_equals_unbroken(name: str, tmp_path: Path) -> None:
    trials, rng, path = 40, random.Random(name), tmp_path / "journal.jsonl"
    unbroken = Run.start(SEARCHES[name](), WIDE)
    run_search(unbroken, functions.fails_at_times, trials)
    Run.start(SEARCHES[name](), WIDE, path=path).close()
    kills = 0
    while True:
        pid = os.fork()
        if pid == 0:  # the child never returns
            code = 1
            with contextlib.suppress(BaseException):
                run = Run.resume(SEARCHES[name](), path)
                DiesAt.left = rng.randrange(1, 30)
                assert run._journal is not None
                run._journal.__class__ = DiesAt
                run_search(run, functions.fails_at_times, trials)
                code = 0
            os._exit(code)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        rng.random()  # another event next time
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        kills += 1
    assert kills >= 2
    resumed = Run.resume(SEARCHES[name](), path)
    assert facts(resumed) == facts(unbroken)
    assert resumed.search.best == unbroken.search.best
    assert resumed.search.counts.failed > 0


def test_what_fails_is_a_failed_trial_with_its_reason() -> None:
    run = Run.start(RandomSearch(seed=1), WIDE)
    run_search(run, functions.fails_at_times, 60)
    reasons = {trial.reason for trial in run.search.trials.values() if trial.state == "failed"}
    where = f"(functions.py:{functions.fails_at_times.__code__.co_firstlineno + 3} in fails_at_times)"
    assert reasons == {f"ValueError: three is too few {where}", reason_of_exit(), "the metric is nan"}
    assert run.search.counts.told + run.search.counts.failed == 60


def reason_of_exit() -> str:
    line = functions.fails_at_times.__code__.co_firstlineno + 5
    return f"SystemExit: 7 (functions.py:{line} in fails_at_times)"


def test_what_is_no_metric_is_a_failed_trial() -> None:
    run = Run.start(RandomSearch(seed=1), WIDE)
    run_search(run, functions.returns_text, 3)
    assert {trial.reason for trial in run.search.trials.values()} == {
        "the metric is 'good', wanted a number, or a dict with a number as 'default'."
    }


def test_numbers_of_numpy_are_the_same_before_and_after_a_resume(tmp_path: Path) -> None:
    run = Run.start(RandomSearch(seed=1, score_key="accuracy"), WIDE, path=tmp_path / "journal.jsonl")
    run_search(run, functions.with_costs, 5)
    run.close()
    again = Run.resume(RandomSearch(seed=1, score_key="accuracy"), tmp_path / "journal.jsonl")
    assert again.search.trials == run.search.trials
    assert again.search.best is not None
    assert {type(value) for value in again.search.best.metrics.values()} == {float, int}


def test_it_ends_with_the_space_or_the_budget_of_the_search() -> None:
    small = Run.start(RandomSearch(seed=1), Space.from_json(SPACES["one key"]))
    run_search(small, functions.good, 100)
    assert small.search.counts.told == 3
    budget = Run.start(Evolution(candidate_pool_size=5, candidate_top_k=2, max_epoch=2), WIDE)
    run_search(budget, functions.good, 100)
    assert budget.search.counts.told == 10


def test_progress_is_told_before_the_first_and_after_every_result() -> None:
    seen = []
    run = Run.start(RandomSearch(seed=1), WIDE)
    run_search(run, functions.good, 4, on_progress=lambda r: seen.append(r.search.counts.told))
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("trials", "workers"), [(0, 1), (2.5, 1), (True, 1), (3, 0), (3, "2")])
def test_numbers_are_checked(trials: Any, workers: Any) -> None:
    with pytest.raises(ValueError, match="wanted a whole number from 1 up"):
        run_search(Run.start(RandomSearch(), WIDE), functions.good, trials, workers)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("good", 'wanted "module:function"'),
        ("a b:c", 'wanted "module:function"'),
        ("no_such_module:f", "no_such_module:f cannot be imported: ModuleNotFoundError"),
        (f"{HERE}:god", f"did you mean {HERE}:good"),
        (f"{HERE}:not_callable", "is of type int, wanted a function"),
    ],
)
def test_a_function_that_is_not_there_is_named(name: str, said: str) -> None:
    with pytest.raises(EvaluateError, match=said):
        NamedFunction(name).find()
    run = Run.start(RandomSearch(), WIDE)
    with pytest.raises(EvaluateError):
        run_search(run, name, 3)
    assert run.search.counts.asked == 0


def test_workers_find_what_one_process_finds() -> None:
    alone, together = (Run.start(RandomSearch(seed=3), WIDE) for _ in range(2))
    run_search(alone, f"{HERE}:fails_at_times", 30)
    run_search(together, f"{HERE}:fails_at_times", 30, workers=2)
    assert told(together) == told(alone)
    assert together.search.counts == alone.search.counts


def test_a_worker_that_is_killed_costs_its_own_trial_and_no_other() -> None:
    run = Run.start(RandomSearch(seed=3), WIDE)
    run_search(run, f"{HERE}:dies_at_times", 20, workers=2)
    for trial in run.search.trials.values():
        died = functions.good(WIDE.decode(trial.tokens)) in (2, 3)
        assert trial.state == ("failed" if died else "told")
        assert not died or "its worker process died" in str(trial.reason)
    assert run.search.counts.failed > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_no_json_is_kept_as_its_text(workers: int) -> None:
    run = Run.start(RandomSearch(seed=3), WIDE)
    run_search(run, f"{HERE}:returns_an_object", 2, workers)
    assert all("<lambda>" in (trial.metrics or {})["model"] for trial in run.search.trials.values())


def test_a_function_without_a_name_cannot_be_given_to_workers() -> None:
    with pytest.raises(WorkerError, match="cannot be given the function"):
        run_search(Run.start(RandomSearch(), WIDE), lambda choices: 1.0, 3, workers=2)


SEARCH = ("search", "space.json", "-o", "run")


def write_space(folder: Path) -> None:
    (folder / "space.json").write_text(json.dumps(SPACES["20 x 4"]))


def nas(folder: Path, command: list[str]) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(
        command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_a_process_killed_while_it_evaluates_is_resumed_by_its_folder_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / "die_at").write_text(str(random.Random(name).randrange(1, 20)))
    words = [*SEARCH, "--evaluate", f"{HERE}:dies_at_one_call", "--algorithm", name, "--trials", "25", "--seed", "5"]
    (whole := tmp_path / "whole").mkdir()
    (elsewhere := tmp_path / "elsewhere").mkdir()
    for folder, code in ((tmp_path, -signal.SIGKILL), (whole, 0)):
        write_space(folder)
        assert processes.run(processes.run_nas, folder, *words) == code
    assert processes.run(processes.run_nas, elsewhere, "resume", str(tmp_path / "run")) == 0
    assert "of 25 trials" in (elsewhere / "printed.txt").read_text()
    assert read(tmp_path / "run/journal.jsonl")[0][1:] == read(tmp_path / "whole/run/journal.jsonl")[0][1:]


def waited(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_workers_end_with_their_search(how: signal.Signals, tmp_path: Path) -> None:
    """Also where the whole group gets the signal, as from a terminal, and where the workers would take ten minutes."""
    write_space(tmp_path)
    words = [*SEARCH, "--evaluate", f"{HERE}:slow", "--workers", "2"]
    process = nas(tmp_path, [sys.executable, "-m", "nas_tuners.cli", *words])
    files = waited(lambda: (found := list(tmp_path.glob("running.*"))) and len(found) == 2 and found)
    os.killpg(process.pid, how) if how == signal.SIGINT else process.send_signal(how)
    _, err = process.communicate(timeout=30)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert "Traceback" not in err
    waited(lambda: all(gone(int(file.suffix[1:])) for file in files))
    if how == signal.SIGINT:
        assert "interrupted after 0 of 100 trials; nothing is lost. Go on with: nas resume run" in err
    assert [event["event"] for event in read(tmp_path / "run/journal.jsonl")[0]] == ["header", "ask", "ask"]


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from nas_tuners.runs.loop import run_search\nfrom nas_tuners.runs.run import Run\n"
        "from nas_tuners.search import RandomSearch\nfrom search_spaces import Space\n"
        'run = Run.start(RandomSearch(), Space.from_json({"a": {"_type": "layer_choice", "_value": ["x", "y"]}}))\n'
        f'run_search(run, "{HERE}:good", 2, workers=2)\n'
    )
    process = nas(tmp_path, [sys.executable, "script.py"])
    _, err = process.communicate(timeout=60)
    assert 'is the call in a script without if __name__ == "__main__"' in err
