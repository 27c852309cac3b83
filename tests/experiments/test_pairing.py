"""Results belong to the architecture that earned them, whatever NNI's own tables say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.experiments.nni_experiment import Experiment, expected

pytestmark = pytest.mark.slow


def test_forty_trials_at_concurrency_four_are_all_paired_right(tmp_path: Path) -> None:
    with Experiment(tmp_path / "home", trialConcurrency=4, maxTrialNumber=40) as experiment:
        experiment.wait_until_done()
        shown = experiment.show()
        experiment.call("nnictl", "experiment", "export", experiment.id, "--filename", "nni.json", "--type", "json")
        exported = json.loads((experiment.code / "nni.json").read_text())

    told = [trial for trial in shown["trials"] if trial["state"] == "told"]
    ours = sum(trial["metrics"]["default"] == expected(trial["choices"]) for trial in told)
    nnis = sum(float(row["value"]) == expected(row["parameter"]) for row in exported)
    print(f"paired right: nas show {ours} of {len(told)}, nnictl experiment export {nnis} of {len(exported)}")
    assert (ours, len(told)) == (40, 40)
    assert len({trial["trial_job_id"] for trial in told}) == 40
    assert shown["best"]["metrics"]["default"] == max(trial["metrics"]["default"] for trial in told)
    assert nnis < 40, "NNI pairs rightly now: the adapter's own pairing could go"


def test_an_exhausted_space_ends_the_experiment_of_a_registered_tuner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NNI_CONFIG_DIR", str(tmp_path / "config"))
    space = {f"k{i}": {"_type": "layer_choice", "_value": ["a", "b"]} for i in range(3)}
    tuner = {"name": "NasAnnealing", "classArgs": {"init_temperature": 1.0}}
    named = Experiment(tmp_path / "home", space=space, tuner=tuner, maxTrialNumber=100)
    assert "NasAnnealing" in named.call("nas", "register")
    with named as experiment:
        experiment.wait_until_done()
        shown, status = experiment.show(), experiment.status()

    assert status == "DONE"
    assert shown["search"] == "Annealing"
    assert shown["counts"].items() >= dict(asked=8, told=8, failed=0, duplicate=0, pending=0, dropped=0).items()
    assert len({json.dumps(trial["choices"]) for trial in shown["trials"]}) == 8
