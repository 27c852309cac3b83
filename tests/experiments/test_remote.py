"""The SANAS example as an experiment on NNI's remote training service: trials behind SSH, the tuner here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from search_spaces.cost import CostTable
from tests.experiments.nni_experiment import Experiment
from tests.experiments.sshd import Sshd, SshdMissing

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
TRIALS = 6


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    try:
        with Sshd(tmp_path / "ssh") as server:
            yield server
    except SshdMissing as error:
        pytest.skip(f"no SSH server to test with: {error}")


def prepared(home: Path, sshd: Sshd) -> Experiment:
    """``examples/sanas/config_remote.yml`` with this machine for the others, and as short as can be."""
    experiment = Experiment.of(home, EXAMPLES, "sanas")
    print(experiment.call("python", "net.py"))
    config: dict[str, Any] = yaml.safe_load((experiment.code / "config_remote.yml").read_text())
    config["nniManagerIp"] = "127.0.0.1"
    config["trialCommand"] = f"{sys.executable} sanas/trial.py --limit 60 --epochs 1"
    config["trialConcurrency"], config["maxTrialNumber"] = 3, TRIALS
    config["trainingService"]["machineList"] = [sshd.machine()]
    (experiment.code / "config.yml").write_text(yaml.safe_dump(config))
    return experiment


def test_the_sanas_example_over_ssh_with_all_pairs_right(tmp_path: Path, sshd: Sshd) -> None:
    with prepared(tmp_path / "manager", sshd) as experiment:
        experiment.wait_until_done(400)
        shown, status = experiment.show(), experiment.status()
        table = CostTable.load(experiment.code / "macs.json")
        ran_there = {path.name for path in sshd.home.glob(f"nni-experiments/{experiment.id}/environments/*/trials/*")}

    told = [trial for trial in shown["trials"] if trial["state"] == "told"]
    right = [trial["metrics"]["tokens"] == list(table.space.encode(trial["choices"])) for trial in told]
    print(f"paired right: {sum(right)} of {len(told)}")
    assert status == "DONE"
    assert (len(told), all(right)) == (TRIALS, True)
    assert all(trial["metrics"]["macs"] == table.cost("macs", trial["metrics"]["tokens"]) for trial in told)
    assert all(trial["metrics"]["macs"] <= 1208268 for trial in told)
    assert {trial["trial_job_id"] for trial in told} <= ran_there
    assert len({json.dumps(trial["choices"]) for trial in told}) == TRIALS
