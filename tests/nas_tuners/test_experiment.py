"""The door from Python: the same runs as those of ``nas search`` and ``nas run``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from mutators import LayerChoice, report_intermediate
from nas_tuners import Experiment, Run, run_search
from nas_tuners.experiment import Findings
from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import load
from nas_tuners.search import Annealing, Evolution, RandomSearch
from nas_tuners.search.algorithms import ALGORITHMS
from nas_tuners.show.frames import FrameError
from search_spaces import Space, SpaceError, Tokens
from tests.nas_tuners import functions
from tests.nas_tuners.hosts.trials.experiments import COMMAND, REPORT, SPACE, good, write_trial
from tests.nas_tuners.nas import Nas

Trial = Callable[[Any], float]


def proposed(findings: Findings) -> list[Tokens]:
    return [trial.tokens for trial in findings.trials]


def by_loop(name: str, trials: int, **options: Any) -> list[Tokens]:
    run = Run.start(ALGORITHMS[name].search(**options), Space.from_json(SPACE))
    run_search(run, good, trials)
    return [trial.tokens for trial in run.search.trials.values()]


def interrupted_at(number: int) -> Trial:
    """Return a function that Ctrl-C interrupts at one of its calls."""
    calls = iter(range(1000))

    def evaluate(choices: Any) -> float:
        if next(calls) == number:
            raise KeyboardInterrupt
        return good(choices)

    return evaluate


@pytest.mark.parametrize("name", ["random", "annealing", "evolution", "bayesian"])
def test_it_proposes_what_the_loop_proposes(name: str) -> None:
    findings = Experiment(SPACE, good, name, trials=12, seed=3).run()
    assert proposed(findings) == by_loop(name, 12, seed=3)
    assert findings.best is not None and findings.front == [findings.best]
    assert findings.best.score == max(trial.score for trial in findings.trials)


def test_a_search_of_ones_own_is_made_anew_for_each_run(tmp_path: Path) -> None:
    search = Evolution(candidate_pool_size=4, seed=3)
    for trials, folder in ((5, tmp_path), (12, tmp_path), (12, tmp_path / "other")):
        findings = Experiment(SPACE, good, search, trials=trials, folder=folder).run()
    assert proposed(findings) == by_loop("evolution", 12, candidate_pool_size=4, seed=3)
    with pytest.raises(TypeError, match=r"seed and a search are given: write Evolution\(seed=...\)"):
        Experiment(SPACE, good, search, seed=3)


@pytest.mark.parametrize("kept", [True, False])
def test_ctrl_c_keeps_everything(tmp_path: Path, kept: bool, nas: Nas) -> None:
    """The same object goes on, and with a folder a new one as well; what was pending comes first."""
    folder = tmp_path / "runs" if kept else None
    experiment = Experiment(SPACE, interrupted_at(7), "evolution", trials=12, folder=folder, seed=3)
    with pytest.raises(RuntimeError, match="has not run yet"):
        experiment.findings  # noqa: B018
    with pytest.raises(KeyboardInterrupt, match=r"after 7 of 12 trials; nothing is lost. Go on with: run\(\)"):
        experiment.run()
    assert [trial.state for trial in experiment.findings.trials] == ["told"] * 7 + ["pending"]
    again = Experiment(SPACE, good, trials=12, folder=folder, seed=3) if kept else experiment
    assert proposed(again.run()) == by_loop("evolution", 12, seed=3)
    if folder is not None:
        assert "makes the Experiment again" in nas("resume", str(folder), cwd=tmp_path, code=1)
        assert "12 asked: 12 told" in nas("show", str(folder), cwd=tmp_path)


def test_a_folder_is_of_one_experiment(tmp_path: Path) -> None:
    Experiment(SPACE, good, "random", trials=2, folder=tmp_path, seed=1).run()
    with pytest.raises(JournalError, match=r"with other arguments: seed 1, here 2. Give those, or another folder"):
        Experiment(SPACE, good, "random", folder=tmp_path, seed=2).run()
    with pytest.raises(JournalError, match=r"search 'RandomSearch', here 'Annealing'"):
        Experiment(SPACE, good, "annealing", folder=tmp_path, seed=1).run()
    with pytest.raises(JournalError, match="digest"):
        Experiment(SPACE, good, "random", folder=tmp_path, seed=1, fixed={"k0": "a"}).run()


def test_a_model_is_a_space(tmp_path: Path) -> None:
    model = nn.Sequential(LayerChoice([nn.Identity(), nn.ReLU()], key="act"), nn.Linear(2, 2))
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    experiment = Experiment(model, lambda choices: float(choices["act"]["_idx"]), trials=9)
    assert isinstance(experiment.search, RandomSearch)  # which is enough for two
    assert len(experiment.run().trials) == 2
    assert Experiment(tmp_path / "space.json", good).space == Experiment(Space.from_json(SPACE), good).space
    with pytest.raises(TypeError, match="space is 7, wanted a model with choices, a Space, or the path"):
        Experiment(7, good)
    with pytest.raises(SpaceError, match="did you mean"):
        Experiment(SPACE, good, fixed={"k00": "a"})


def test_several_objectives_have_a_front() -> None:
    objectives = {"default": "maximize", "size": "minimize"}

    def evaluate(choices: Any) -> dict[str, float]:
        return {"default": good(choices), "size": float(choices["k0"]["_idx"])}

    findings = Experiment(SPACE, evaluate, "nsga2", trials=20, objectives=objectives).run()
    assert findings.front[0] == findings.best
    assert len(findings.front) > 1 and len(findings.trials) == 20


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong: dict[str, Any] = {"trials": 0, "workers": 0, "host": "locl", "optimize_mode": "max", "trial_timeout": 0}
    with pytest.raises(ValueError) as caught:
        Experiment(SPACE, good, **wrong)
    assert all(f"{name} is {value!r}, wanted" in str(caught.value) for name, value in wrong.items())
    assert "did you mean 'local'?" in str(caught.value)
    with pytest.raises(ValueError, match="wanted a function, or module:function; a command is for host='local'"):
        Experiment(SPACE, "python3 trial.py")
    with pytest.raises(ValueError, match="wanted a command; a function is for host='loop'"):
        Experiment(SPACE, good, host="local")
    with pytest.raises(ValueError, match="no_such:f cannot be imported"):
        Experiment(SPACE, "no_such:f")
    with pytest.raises(ValueError, match=r"<lambda>.*which other processes cannot import: write it into a module"):
        Experiment(SPACE, lambda choices: 1.0, workers=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'sed'"):
        Experiment(SPACE, good, "random", sed=1)


def test_the_trials_are_a_table() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is missing: pip install pandas")
    entries: dict[str, Any] = {
        "state": {"_type": "layer_choice", "_value": ["a", "b"]},
        "inner": {"_type": "choice", "_value": [0.1, 0.2], "_when": {"state": ["a"]}},
        "in": {"_type": "input_choice", "_value": {"candidates": ["x", "y"], "n_chosen": 2}},
    }

    def evaluate(choices: Any) -> dict[str, float]:
        if choices["state"]["_idx"]:
            raise ValueError
        return {"default": choices["inner"], "state": 7.0}

    frame = Experiment(entries, evaluate, "random", seed=1).run().frame()
    assert list(frame.columns) == ["uid", "state", "default", "state (metric)", "state (key)", "inner", "in"]
    assert isinstance(frame, pandas.DataFrame) and len(frame) == 3
    told = frame[frame["state"] == "told"]
    assert sorted(told["inner"]) == sorted(told["default"]) == [0.1, 0.2] and set(told["state (metric)"]) == {7.0}
    (failed,) = frame[frame["state"] == "failed"].to_dict("records")
    assert failed["state (key)"] == "b" and failed["in"] == "x, y"
    assert frame.isna().loc[failed["uid"], ["default", "inner"]].all()


def test_a_table_needs_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = Experiment(SPACE, good, trials=2).run()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FrameError, match="needs pandas: pip install pandas"):
        findings.frame()


def test_commands_are_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as the loop; in a new folder, which ``nas resume`` goes on from."""
    monkeypatch.chdir(tmp_path)
    write_trial(tmp_path, REPORT)
    experiment = Experiment(SPACE, COMMAND, "evolution", host="local", trials=4, seed=3)
    assert proposed(experiment.run()) == by_loop("evolution", 4, seed=3)
    assert experiment.folder == Path("runs", "1")
    again = Experiment(SPACE, COMMAND, host="local", trials=6, seed=3, folder="runs/1")
    assert proposed(again.run()) == by_loop("evolution", 6, seed=3)
    assert (tmp_path / "runs" / "1" / "trials" / "5" / "trial.stdout").is_file()
    with pytest.raises(ValueError, match="trial is 'pyton', but there is no command 'pyton'"):
        Experiment(SPACE, "pyton", host="local", folder="new")


def test_early_stopping_reaches_commands_and_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_trial(tmp_path, "between(9 - uid)\nif uid > 3: time.sleep(600)\n" + REPORT)
    worse = iter(range(9, 0, -1))

    def evaluate(choices: Any) -> float:
        report_intermediate(next(worse))
        return good(choices)

    for trial, host in ((evaluate, "loop"), (COMMAND, "local")):
        findings = Experiment(SPACE, trial, "random", host=host, trials=6, early_stopping="asha").run()
        assert [trial.state for trial in findings.trials][4:] == ["stopped"] * 2


@pytest.mark.slow
def test_what_is_named_goes_on_by_nas_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas: Nas) -> None:
    monkeypatch.chdir(tmp_path)
    write_trial(tmp_path, REPORT)
    named = Experiment(SPACE, f"{functions.__name__}:good", Annealing(seed=1), trials=3, workers=2, folder="named")
    command = Experiment(SPACE, COMMAND, "annealing", host="local", trials=3, folder="command", seed=1)
    for experiment in (named, command):
        experiment.run()
        nas("resume", str(experiment.folder), "--trials", "8", cwd=tmp_path)
        run, _ = load(Path(str(experiment.folder), "journal.jsonl"))
        assert run.search.counts.told == 8
