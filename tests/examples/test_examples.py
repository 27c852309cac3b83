"""Examples under NNI, beyond what their guides show: killed and resumed, and with one checkpoint for all trials.

The guides themselves run in ``tests/test_pages.py``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.experiments.nni_experiment import Experiment

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
NAS = str(Path(sys.executable).parent / "nas")


def run(*words: str, cwd: Path, home: Path, **settings: str) -> str:
    env = {**Experiment.environment(home), **settings}
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(
    not FASHION_MNIST.is_dir(), reason="Fashion-MNIST is missing: apt-get install dataset-fashion-mnist"
)
def test_spos_under_nni_killed_and_resumed(tmp_path: Path) -> None:
    settings = {"SPOS_FOLDER": str(tmp_path / "out"), "SPOS_LIMIT": "1500", "SPOS_EPOCHS": "1"}
    prepared = Experiment.of(tmp_path / "home", EXAMPLES, "spos", **settings)
    run("train.py", cwd=prepared.code, home=tmp_path, **settings)
    run(NAS, "ss-gen", "-o", "space.json", "--", sys.executable, "net.py", cwd=prepared.code, home=tmp_path)
    run(NAS, "cost", "net:build", "--input", "1,28,28", "-o", "macs.json", cwd=prepared.code, home=tmp_path)
    config = prepared.code / "config.yml"
    config.write_text(config.read_text().replace("maxTrialNumber: 60", "maxTrialNumber: 8"))
    with prepared as experiment:
        experiment.wait(lambda: experiment.told() >= 2, 200)
        before = {trial["uid"]: trial["metrics"] for trial in experiment.show()["trials"] if trial["state"] == "told"}
        experiment.kill_manager()
        experiment.kill_dispatcher()
        experiment.resume()
        experiment.wait_until_done(300)
        shown = experiment.show()
    after = {trial["uid"]: trial["metrics"] for trial in shown["trials"] if trial["state"] == "told"}
    assert shown["search"] == "Evolution"
    assert before.items() <= after.items()
    assert len(after) >= 6
    assert shown["counts"]["failed"] == 0


@pytest.mark.skipif(
    not FASHION_MNIST.is_dir(), reason="Fashion-MNIST is missing: apt-get install dataset-fashion-mnist"
)
def test_trials_that_go_on_with_one_supernet(tmp_path: Path) -> None:
    checkpoint = tmp_path / "supernet.pt"
    settings = {"OFA_CHECKPOINT": str(checkpoint), "OFA_STEPS": "3", "OFA_LIMIT": "600"}
    prepared = Experiment.of(tmp_path / "home", EXAMPLES, "ofa", **settings)
    run(NAS, "ss-gen", "-o", "space.json", "--", sys.executable, "net.py", cwd=prepared.code, home=tmp_path)
    config = prepared.code / "config.yml"
    text = (
        config.read_text()
        .replace("maxTrialNumber: 60", "maxTrialNumber: 12")
        .replace("phase_budgets: 8", "phase_budgets: 1")
    )
    config.write_text(text)
    with prepared as experiment:
        experiment.wait_until_done(300)
        shown = experiment.show()
    told = [trial for trial in shown["trials"] if trial["state"] == "told"]
    assert len(told) == 12
    trained = sum(trial["phase"]["name"] != "search" for trial in told)
    assert trained >= 5  # one a phase; what was asked for before a phase ended belongs to it, too
    assert torch.load(checkpoint, weights_only=True)["trials"] == trained
    assert shown["best"]["phase"]["name"] == "search"
