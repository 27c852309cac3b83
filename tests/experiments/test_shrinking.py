"""A real experiment by phases: what trials got, and when, as the journal has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_tuners.runs.journal import read
from nas_tuners.search import Shrinking
from search_spaces import Space
from tests.experiments.nni_experiment import Experiment
from tests.spaces import layer

pytestmark = pytest.mark.slow

SPACE = {
    "a.kernel_size": layer("3", "5", "7"),
    "a.expand_ratio": layer("3", "4", "6"),
    "a.depth": layer("2", "3", "4"),
}
# The metric says what the trial was told: which phase, and which network.
TRIAL = """
import nni
got = nni.get_next_parameter()
size = sum(3 ** i * got[key]["_idx"] for i, key in enumerate(sorted(key for key in got if key[0] != "_")))
phase = got["_phase"]
nni.report_final_result({"default": size, "phase": phase["index"], "name": phase["name"], "_uid": got["_uid"]})
"""
BUDGETS = [[3], [2, 2], [2, 2]]
LENGTHS = [3, 2, 2, 2, 2]


def test_a_real_experiment_goes_phase_by_phase(tmp_path: Path) -> None:
    tuner = {
        "className": "nas_tuners.ProgressiveShrinkingTuner",
        "classArgs": {"phase_budgets": BUDGETS, "inner": "annealing", "inner_arguments": {"init_temperature": 1.0}},
    }
    with Experiment(tmp_path / "home", space=SPACE, trial=TRIAL, tuner=tuner, maxTrialNumber=18) as experiment:
        experiment.wait_until_done()
        events, shown, status = read(experiment.journal)[0], experiment.show(), experiment.status()
        text = experiment.call("nas", "show", experiment.id)

    search = Shrinking(phase_budgets=BUDGETS)
    search.setup(Space.from_json(SPACE))
    asks = [event for event in events if event["event"] == "ask"]
    indices = [event["phase"]["index"] for event in asks]
    print("phases asked for:", indices)
    assert status == "DONE"
    assert indices == sorted(indices)
    assert set(indices) == set(range(6))
    for event in asks[: indices.index(5)]:
        assert search.schedule.region(event["phase"]["index"]).holds(event["tokens"][0])

    told = [trial for trial in shown["trials"] if trial["state"] == "told"]
    assert len(told) == 18
    for trial in told:
        assert trial["metrics"]["phase"] == trial["phase"]["index"]
        assert trial["metrics"]["name"] == trial["phase"]["name"]
    ended = [0] * 6  # results of each phase, so far
    for event in events:
        if event["event"] == "ask":
            open_now = next((i for i, budget in enumerate(LENGTHS) if ended[i] < budget), 5)
            assert event["phase"]["index"] == open_now
        elif event["event"] == "tell":
            ended[indices[event["uid"]]] += 1
    assert shown["best"]["phase"]["name"] == "search"
    assert "phase 6/6, search by annealing" in text
