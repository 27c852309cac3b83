"""SIGKILL of an experiment's processes, then ``nas resume``: nothing told is lost, nothing is counted twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.experiments.nni_experiment import Experiment, expected

pytestmark = pytest.mark.slow

SPACE = {
    **{f"k{i}": {"_type": "layer_choice", "_value": ["a", "b", "c"]} for i in range(2)},
    "k2": {"_type": "layer_choice", "_value": ["a", "b"]},
}


@pytest.mark.parametrize("killed", ["manager", "dispatcher", "both"])
def test_a_killed_experiment_goes_on_where_it_was(tmp_path: Path, killed: str) -> None:
    with Experiment(tmp_path / "home", space=SPACE, maxTrialNumber=100) as experiment:
        experiment.wait(lambda: experiment.told() >= 5)
        if killed in ("manager", "both"):
            experiment.kill_manager()
        if killed in ("dispatcher", "both"):
            experiment.kill_dispatcher()
        before = _results(experiment.show())

        print(experiment.call("nas", "resume", experiment.id))
        experiment.wait_until_done()
        shown = experiment.show()

    after = _results(shown)
    assert len(before) >= 5
    assert {uid: after[uid] for uid in before} == before
    # Every architecture of the space has one result, and the right one.
    assert shown["counts"]["told"] == len(after) == 18
    assert shown["counts"]["pending"] == shown["counts"]["failed"] == 0
    assert all(trial["metrics"]["default"] == expected(trial["choices"]) for trial in shown["trials"])


def _results(shown: dict[str, Any]) -> dict[int, float]:
    return {trial["uid"]: trial["metrics"]["default"] for trial in shown["trials"] if trial["state"] == "told"}
