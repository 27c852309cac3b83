"""Trials that NNI's assessor stops: kept as stopped, with how far they came, for the architecture that really ran."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.experiments.nni_experiment import Experiment
from tests.spaces import layer

pytestmark = pytest.mark.slow

SPACE = {"kind": layer("ours", "plain"), "score": layer(*map(str, range(6)))}

# The best scores come first and are the last to be reported: a stop that counted as a result would be the best.
TRIAL = """
import time
import nni

choices = nni.get_next_parameter()
score = choices["score"]["_idx"]
if choices["kind"]["_value"] == "ours":
    from torch import nn
    from mutators import LayerChoice, get_and_apply_next_architecture

    model = nn.ModuleDict({
        "kind": LayerChoice({"ours": nn.Identity(), "plain": nn.Identity()}),
        "score": LayerChoice([nn.Identity() for _ in range(6)]),
    })
    get_and_apply_next_architecture(model)
for epoch in range(3):
    nni.report_intermediate_result(100 + score if score % 2 else score)
while score % 2:
    time.sleep(0.1)  # until NNI stops it
nni.report_final_result(score)
"""
ASSESSOR = """
from nni.assessor import AssessResult, Assessor

class Strict(Assessor):
    def assess_trial(self, trial_job_id, trial_history):
        stop = len(trial_history) == 3 and trial_history[-1] >= 100
        return AssessResult.Bad if stop else AssessResult.Good
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    experiment = Experiment(
        tmp_path_factory.mktemp("stop") / "home",
        SPACE,
        TRIAL,
        {"className": "nas_tuners.RandomTuner"},
        maxTrialNumber=50,
        trialConcurrency=4,
        assessor={"className": "strict.Strict", "codeDirectory": "."},
    )
    (experiment.code / "strict.py").write_text(ASSESSOR)
    with experiment:
        experiment.wait_until_done()
        assert experiment.status() == "DONE", experiment.log()[-3000:]
        return experiment.show()


@pytest.mark.parametrize("kind", ["ours", "plain"])
def test_fault_09_trials_that_an_assessor_stops(shown: dict[str, Any], kind: str) -> None:
    trials = [trial for trial in shown["trials"] if trial["choices"]["kind"]["_value"] == kind]
    assert len(trials) == 6
    for trial in trials:
        score = trial["choices"]["score"]["_idx"]
        if score % 2:
            assert (trial["state"], trial["resource"]) == ("stopped", 3), trial
            assert trial["metrics"]["default"] == 100 + score
        else:
            assert (trial["state"], trial["metrics"]["default"]) == ("told", score), trial


OURS = """
import time
import nni
from torch import nn
from mutators import LayerChoice, get_and_apply_next_architecture, report_final, report_intermediate

model = nn.ModuleDict({"score": LayerChoice([nn.Identity() for _ in range(6)], key="score"),
                       "kind": LayerChoice({"ours": nn.Identity(), "plain": nn.Identity()}, key="kind")})
choices = get_and_apply_next_architecture(model)
score, ours = choices["score"]["_idx"], choices["kind"]["_value"] == "ours"
for epoch in range(1, 4):
    (report_intermediate if ours else nni.report_intermediate_result)(score * epoch / 3)
    time.sleep(0.5)  # an epoch's work, in which NNI may stop it
(report_final if ours else nni.report_final_result)(score)
"""


def test_a_tuner_stops_by_its_own_rule_through_the_assessor_beside_it(tmp_path: Path) -> None:
    """Median, from the first result on: what stops is worse than what was there, whoever reports it."""
    experiment = Experiment(
        tmp_path / "home",
        SPACE,
        OURS,
        {
            "className": "nas_tuners.RandomTuner",
            "classArgs": {"early_stopping": {"rule": "median", "startup": 1}, "seed": 3},
        },
        maxTrialNumber=7,
        trialConcurrency=2,
        assessor={"className": "nas_tuners.SearchAssessor", "codeDirectory": "."},
    )
    with experiment:
        experiment.wait_until_done()
        assert experiment.status() == "DONE", experiment.log()[-3000:]
        shown = experiment.show()
    counts, trials = shown["counts"], shown["trials"]
    assert counts["told"] + counts["stopped"] == 7 and counts["failed"] == 0, counts
    stopped = [trial for trial in trials if trial["state"] == "stopped"]
    assert stopped, counts
    for trial in stopped:
        score = trial["choices"]["score"]["_idx"]
        assert trial["metrics"]["default"] == pytest.approx(score * trial["resource"] / 3)
    told = [trial["choices"]["score"]["_idx"] for trial in trials if trial["state"] == "told"]
    assert shown["best"]["metrics"]["default"] == max(told)


def test_fault_09_none_of_them_is_the_best_or_left_over(shown: dict[str, Any]) -> None:
    assert shown["best"]["metrics"]["default"] == 4
    counts = shown["counts"]
    assert (counts["told"], counts["stopped"], counts["failed"], counts["pending"]) == (6, 6, 0, 0)
