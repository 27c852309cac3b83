"""Trials that fail in every way there is, and a tuner that does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.nni_experiment import SPACE, TRIAL, Experiment
from tests.spaces import layer

pytestmark = pytest.mark.slow

ENDINGS = ("good", "raises", "says nothing", "is killed", "reports twice", "raises late", "nan", "text")
FAILING = f"""
import os, signal, sys
import nni
from torch import nn
from mutators import LayerChoice, get_and_apply_next_architecture, report_final

endings = {ENDINGS!r}
model = nn.ModuleDict({{
    "ending": LayerChoice({{name: nn.Identity() for name in endings}}),
    "score": LayerChoice([nn.Identity(), nn.Identity()]),
}})
choices = get_and_apply_next_architecture(model)
ending, score = choices["ending"]["_value"], choices["score"]["_idx"]
if ending == "raises":
    raise RuntimeError("out of memory")
if ending == "says nothing":
    sys.exit(0)
if ending == "is killed":
    os.kill(os.getpid(), signal.SIGKILL)
if ending == "text":
    nni.report_final_result("good")
    sys.exit(0)
report_final(float("nan") if ending == "nan" else score, macs=7)
if ending == "reports twice":
    report_final(99)
if ending == "raises late":
    raise RuntimeError("after the result")
"""


def test_every_way_to_fail_is_counted_for_the_right_trial(tmp_path: Path) -> None:
    space = {"ending": layer(*ENDINGS), "score": layer("0", "1")}
    with Experiment(tmp_path / "home", space=space, trial=FAILING, maxTrialNumber=100) as experiment:
        experiment.manager.add_trial({"ending": {"_value": "good", "_idx": 0}, "score": {"_value": "1", "_idx": 1}})
        experiment.wait_until_done(300)
        shown, status = experiment.show(), experiment.status()

    by_ending: dict[str, list[str]] = {name: [] for name in ENDINGS}
    for trial in shown["trials"]:
        ending = trial["choices"]["ending"]["_value"]
        by_ending[ending].append(trial["state"])
        if trial["state"] == "told":
            assert trial["metrics"] == {"default": float(trial["choices"]["score"]["_idx"]), "macs": 7}
        if ending == "raises":
            assert trial["reason"] == "RuntimeError: out of memory"
        if ending == "says nothing":
            assert trial["reason"] == "the trial ended without a final metric"
        if ending == "is killed":
            assert trial["reason"] == "its trial ended without a result"
    assert status == "DONE"
    for ending, states in by_ending.items():
        good = ending in ("good", "reports twice", "raises late")
        assert states == ["told" if good else "failed"] * 2, ending
    assert (shown["counts"]["told"], shown["counts"]["failed"], shown["counts"]["pending"]) == (6, 10, 0)
    assert shown["counts"]["duplicate"] >= 2


OWN = """
from nas_tuners import SearchTuner
from nas_tuners.search import RandomSearch

class Buggy(RandomSearch):
    def _propose(self, n):
        if len(self.trials) == 4:
            raise ZeroDivisionError("a bug of the user's own")
        return super()._propose(n)

class Tuner(SearchTuner):
    def __init__(self):
        super().__init__(Buggy())
"""


def test_a_tuner_that_cannot_go_on_ends_the_experiment_with_an_error_and_not_in_silence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    experiment = Experiment(home, space=SPACE, trial=TRIAL, tuner={"className": "own.Tuner"})
    (experiment.code / "own.py").write_text(OWN)
    with experiment:
        experiment.wait_until_done()
        status, log, shown = experiment.status(), experiment.log(), experiment.show()
        manager_log = (experiment.folder / "log" / "nnimanager.log").read_text()
    assert status == "ERROR"
    assert "Tuner cannot go on: Buggy._propose(1) failed: ZeroDivisionError" in log
    assert "Tuner cannot go on" in manager_log
    assert shown["counts"]["asked"] == 4
