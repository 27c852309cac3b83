"""NNI's own tuner for architectures, over a space of ``nas ss-gen`` and our trial side.

NNI 3.0 has no SPOS evolution tuner any more: its regularized evolution took that one's place, and is the only built-in
tuner that searches ``layer_choice`` and ``input_choice``. It compares results, and fails on what is no number.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.experiments.nni_experiment import Experiment

pytestmark = pytest.mark.slow

TRIAL = """
import sys
from torch import nn
from mutators import InputChoice, LayerChoice, get_and_apply_next_architecture, report_final, report_intermediate

model = nn.ModuleDict({
    "conv": LayerChoice({"one": nn.Identity(), "two": nn.ReLU(), "three": nn.Sigmoid()}),
    "act": LayerChoice([nn.ReLU(), nn.Tanh()]),
    "skip": InputChoice(3, n_chosen=1),
})
choices = get_and_apply_next_architecture(model)
score = choices["conv"]["_idx"] + 10 * choices["act"]["_idx"] + 100 * choices["skip"]["_idx"][0]
report_intermediate(score / 2)
if choices["conv"]["_value"] == "two" and choices["act"]["_idx"]:
    raise RuntimeError("out of memory")
report_final(score)
"""


@pytest.mark.parametrize("trials", [8, pytest.param(20, marks=pytest.mark.nightly)])
def test_fault_15_nnis_evolution_runs_over_our_space_and_our_trials(tmp_path: Path, trials: int) -> None:
    arguments = {"optimize_mode": "maximize", "population_size": trials // 3}
    tuner = {"name": "RegularizedEvolutionTuner", "classArgs": arguments}
    # One at a time: NNI tells its tuner of the wrong trial's end where they run side by side, and its tuner then fails.
    more = {"maxTrialNumber": trials, "trialConcurrency": 1}
    experiment = Experiment(tmp_path / "home", trial=TRIAL, tuner=tuner, **more)
    experiment.call("nas", "ss-gen", "-o", "space.json", "--", "python", "trial.py")
    assert list(json.loads((experiment.code / "space.json").read_text())) == ["conv", "act", "skip"]
    with experiment:
        experiment.wait_until_done()
        jobs = experiment.manager.get("trial-jobs")
        rows = experiment.manager.get("metric-data")
        finals = [json.loads(json.loads(row["data"])) for row in rows if row["type"] == "FINAL"]
        log = experiment.log()
    assert len(jobs) == trials and "Traceback" not in log, log[-3000:]
    ended = [job["status"] for job in jobs]
    assert set(ended) <= {"SUCCEEDED", "FAILED"}
    # A number for each trial that ended well, and nothing at all for one that crashed.
    assert len(finals) == ended.count("SUCCEEDED") >= trials // 2
    assert all(type(final) is int for final in finals)
