"""The assessor of ours: what NNI's manager knows of a job says which architecture a result is of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from nni.assessor import AssessResult
from nni.tuner import Tuner

from nas_tuners import RandomTuner, SearchAssessor, SearchTuner
from nas_tuners.runs.run import load
from tests.faults.manager import FakeManager
from tests.nas_tuners.nas import Nas
from tests.spaces import layer

SPACE = {f"k{i}": layer("a", "b", "c") for i in range(4)}
GOOD, BAD = AssessResult.Good, AssessResult.Bad


def started(**arguments: Any) -> SearchTuner:
    tuner: SearchTuner = RandomTuner(**arguments)
    tuner.update_search_space(SPACE)
    return tuner


def test_results_count_for_what_the_job_really_runs(checkpoint: Path, manager: FakeManager) -> None:
    """NNI meant j0 to run 0 and j1 to run 1; each runs the other's."""
    tuner = started(early_stopping="asha")
    assessor = SearchAssessor()
    sent = tuner.generate_multiple_parameters([0, 1])
    manager.add("j0", "RUNNING", (0, sent[0]), ran=1, between=[0.5])
    manager.add("j1", "RUNNING", (1, sent[1]), ran=0, between=[0.1])
    assert assessor.assess_trial("j0", [0.5]) is GOOD
    assert assessor.assess_trial("j1", [0.1]) is BAD
    assert assessor.assess_trial("j1", [0.1, 0.2]) is BAD  # NNI may ask on until the trial has ended
    trials = tuner.run.search.trials
    assert [trials[uid].state for uid in (0, 1)] == ["stopped", "pending"]
    assert (trials[0].metrics, trials[0].resource, trials[0].job) == ({"default": 0.1}, 1, "j1")
    # what the interrupted trial says itself, and NNI of its end, change nothing
    tuner.receive_trial_result(0, sent[0], {"default": 0.1, "_uid": 0, "_stopped": 1}, trial_job_id="j1")
    manager.jobs[1]["status"] = "EARLY_STOPPED"
    tuner.trial_end(1, False)
    tuner.receive_trial_result(1, sent[1], 0.9, trial_job_id="j0")
    tuner._on_exit()
    run, _ = load(checkpoint / "journal.jsonl")
    assert [trial.state for trial in run.search.trials.values()] == ["stopped", "told"]
    assert "second result" not in (checkpoint / "journal.jsonl").read_text()


def test_the_result_of_a_trial_that_ended_before_it_could_be_stopped_counts(
    checkpoint: Path, manager: FakeManager
) -> None:
    tuner = started(early_stopping="asha")
    assessor = SearchAssessor()
    sent = tuner.generate_multiple_parameters([0, 1])
    for at in (0, 1):
        manager.add(f"j{at}", "RUNNING", (at, sent[at]), ran=at, between=[0.5])
    assert [assessor.assess_trial(f"j{at}", [0.5 - at]) for at in (0, 1)] == [GOOD, BAD]
    tuner.receive_trial_result(1, sent[1], 0.7, trial_job_id="j1")
    trial = tuner.run.search.trials[1]
    assert (trial.state, trial.score, trial.resource) == ("told", 0.7, None)


def test_a_resumed_experiment_goes_on_with_the_results_of_before(checkpoint: Path, manager: FakeManager) -> None:
    tuner = started(early_stopping="asha")
    assessor = SearchAssessor()
    sent = tuner.generate_multiple_parameters([0, 1])
    manager.add("j0", "RUNNING", (0, sent[0]), ran=0, between=[0.5])
    assert assessor.assess_trial("j0", [0.5]) is GOOD
    tuner._on_exit()
    manager.jobs.clear()
    again = started(early_stopping="asha")
    other = SearchAssessor()
    assert again.run.search.curves == {0: {1: (0.5,)}}
    given = [again.generate_parameters(number) for number in (0, 1)]
    uids = [one["_uid"] for one in given]
    manager.add("j1", "RUNNING", (uids.index(1), given[uids.index(1)]), ran=uids.index(1), between=[0.4])
    assert other.assess_trial("j1", [0.4]) is BAD  # by the result of 0 from before


@pytest.mark.parametrize("value", ["good", None, {"loss": 1.0}, [1.0]])
def test_an_intermediate_result_that_is_none_is_a_note(checkpoint: Path, manager: FakeManager, value: Any) -> None:
    tuner = started(early_stopping="asha")
    sent = tuner.generate_parameters(0)
    manager.add("j0", "RUNNING", (0, sent), ran=0, between=[0.1])
    assert SearchAssessor().assess_trial("j0", [value]) is GOOD
    assert tuner.run.search.trials[0].state == "pending"
    assert "an intermediate result of uid 0 does not count" in (checkpoint / "journal.jsonl").read_text()


def test_a_job_that_nobody_knows_goes_on(checkpoint: Path, manager: FakeManager) -> None:
    tuner = started(early_stopping="asha")
    assert SearchAssessor().assess_trial("customized", [0.1]) is GOOD
    assert not tuner.run.search.curves


def test_beside_another_tuner_it_says_what_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SearchTuner, "_latest", None)
    Tuner()
    with pytest.raises(ValueError, match="wants a tuner of nas_tuners beside it"):
        SearchAssessor()


CONFIG: dict[str, Any] = {
    "searchSpaceFile": "space.json",
    "trialCommand": "python3 trial.py",
    "trialConcurrency": 1,
    "maxTrialNumber": 9,
    "trainingService": {"platform": "local"},
}
ASSESSOR = {"className": "nas_tuners.SearchAssessor", "codeDirectory": "."}


@pytest.mark.parametrize(
    ("rule", "assessor", "said"),
    [
        ("asha", ASSESSOR, ""),
        ("none", None, ""),
        ("asha", None, "write assessor: {className: nas_tuners.SearchAssessor, codeDirectory: .}"),
        ("none", ASSESSOR, "the tuner's early_stopping is none"),
        ("asha", {**ASSESSOR, "classArgs": {"rule": "asha"}}, "a name in assessor.classArgs"),
        ("asha", {**ASSESSOR, "className": "nas_tuners.Assessor"}, "did you mean 'nas_tuners.SearchAssessor'"),
    ],
)
def test_nas_check_sees_to_it_that_rule_and_assessor_come_together(
    rule: str, assessor: Any, said: str, nas: Nas, tmp_path: Path
) -> None:
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    (tmp_path / "trial.py").touch()
    tuner = {"className": "nas_tuners.BayesianTuner", "codeDirectory": ".", "classArgs": {"early_stopping": rule}}
    config = {**CONFIG, "tuner": tuner, **({"assessor": assessor} if assessor else {})}
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    assert said in nas("check", "config.yml", cwd=tmp_path, code=1 if said else 0)
