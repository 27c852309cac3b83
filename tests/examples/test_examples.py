"""Every example runs, as short as it can be, and says what it found."""

from __future__ import annotations

import re
import shutil
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


def run(*words: str, cwd: Path, home: Path) -> str:
    env = Experiment.environment(home)
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(
    not FASHION_MNIST.is_dir(), reason="Fashion-MNIST is missing: apt-get install dataset-fashion-mnist"
)
def test_quickstart_on_fashion_mnist(tmp_path: Path) -> None:
    words = ("--smoke", "--data", str(FASHION_MNIST), "--limit", "2000", "-o", str(tmp_path / "out"))
    said = run(str(EXAMPLES / "quickstart" / "demo.py"), *words, cwd=tmp_path, home=tmp_path)
    assert "the same file as by nas ss-gen" in said
    assert "4 asked: 4 told, 0 failed, 0 pending" in said
    (accuracy,) = re.findall(r"accuracy on 2000 held-out images: ([\d.]+)", said)
    assert float(accuracy) > 0.5  # one architecture, three epochs of 2000 images
    assert "largest difference of logits 0.0e+00" in said


def test_own_tuner_under_nni(tmp_path: Path) -> None:
    folder = EXAMPLES / "own_tuner"
    with Experiment.of(tmp_path / "home", folder) as experiment:
        experiment.wait_until_done()
        shown, status = experiment.show(), experiment.status()
    assert status == "DONE"
    assert [trial["choices"]["conv"]["_idx"] for trial in shown["trials"]] == [0, 0, 1, 1, 2, 2]
    assert shown["best"]["metrics"]["default"] == 2.5


def test_one_shot_by_hand(tmp_path: Path) -> None:
    said = run(str(EXAMPLES / "one_shot" / "train.py"), "--smoke", cwd=tmp_path, home=tmp_path)
    (score,) = re.findall(r"best of 36 architectures: ([\d.]+)", said)
    assert float(score) > 0.5
    assert float(re.findall(r"largest difference of logits ([\d.e+-]+)", said)[0]) < 1e-5


def test_darts_on_digits(tmp_path: Path) -> None:
    said = run(str(EXAMPLES / "darts" / "train.py"), "--smoke", cwd=tmp_path, home=tmp_path)
    cells = re.findall(r"  (\w+_n\d) = (\w+)\(n\d\) \+ (\w+)\(n\d\)", said)
    assert [name for name, *_ in cells] == ["normal_n2", "normal_n3", "reduce_n2", "reduce_n3"]
    assert not any("none" in operations for _, *operations in cells)
    (accuracy,) = re.findall(r"trained from scratch: ([\d.]+)", said)
    assert float(accuracy) > 0.7


@pytest.mark.skipif(
    not FASHION_MNIST.is_dir(), reason="Fashion-MNIST is missing: apt-get install dataset-fashion-mnist"
)
def test_spos_in_three_steps_and_under_nni_killed_and_resumed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run(str(EXAMPLES / "spos" / "run.py"), "--smoke", "-o", str(out), cwd=tmp_path, home=tmp_path)
    assert "exact on 200 random architectures" in said
    assert re.search(r"winner 0\.\d+; mean of 3 random architectures of its cost 0\.\d+", said)
    assert "tau" in said

    prepared = Experiment.of(tmp_path / "home", EXAMPLES, "spos", SPOS_FOLDER=str(out), SPOS_LIMIT="1500")
    for name in ("space.json", "macs.json"):
        shutil.copy(out / name, prepared.code)
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


def test_sanas_in_its_own_loop(tmp_path: Path) -> None:
    said = run(str(EXAMPLES / "sanas" / "run.py"), "--smoke", "-o", "out", cwd=tmp_path, home=tmp_path)
    assert said.count("step ") == 3
    rows = {name: float(macs) for name, macs in re.findall(r"^(initial|start|found|2 random) +([\d.]+) ", said, re.M)}
    assert rows["found"] <= rows["initial"] / 2
    assert 0.9 * rows["found"] <= rows["2 random"] <= rows["found"]
    run(str(EXAMPLES / "sanas" / "net.py"), cwd=tmp_path, home=tmp_path)
    shutil.copy(EXAMPLES / "sanas" / "config.yml", tmp_path)
    assert "config.yml is fine: 20 choices" in run(NAS, "check", "config.yml", cwd=tmp_path, home=tmp_path)


@pytest.mark.skipif(
    not FASHION_MNIST.is_dir(), reason="Fashion-MNIST is missing: apt-get install dataset-fashion-mnist"
)
def test_gmp(tmp_path: Path) -> None:
    said = run(str(EXAMPLES / "gmp" / "run.py"), "--smoke", "-o", str(tmp_path / "out"), cwd=tmp_path, home=tmp_path)
    table = {
        line[:30].strip(): [float(number.replace(",", "")) for number in line[30:].replace("+-", " ").split()]
        for line in said.splitlines()
        if re.search(r"\+- .* \+- ", line)
    }
    assert len(table) == 7
    for ratio in (75, 85):
        lead = float(table[f"gradual {ratio}%"][0]) - float(table[f"at once, then trained {ratio}%"][0])
        assert f"gradual {ratio}% against at once, then trained {ratio}%: {100 * lead:+.2f} points" in said
    kept, large, small = zip(*(row[4:] for row in table.values()), strict=True)
    conv1x1 = 161_024  # weights of 1x1 convolutions, of 182,720
    for at, ratio in enumerate((0, 0.75, 0.85, 0.75, 0.85, 0.75, 0.85)):
        assert kept[at] == pytest.approx(182_720 - ratio * conv1x1, abs=20)
    assert max(small[1:]) < 0.5 * min(large)
    assert re.search(r"prune:score: 0\.\d+ before, 0\.\d+ after", said)


@pytest.mark.skipif(
    not FASHION_MNIST.is_dir(), reason="Fashion-MNIST is missing: apt-get install dataset-fashion-mnist"
)
def test_once_for_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run(str(EXAMPLES / "ofa" / "run.py"), "--smoke", "-o", str(out), cwd=tmp_path, home=tmp_path)
    rows = re.findall(
        r"^ +(small|medium|large) +([\d,]+) +([\d,]+) +([\d,]+) +(0\.\d+) +(0\.\d+) +(0\.\d+)", said, re.M
    )
    assert [row[0] for row in rows] == ["small", "medium", "large"]
    limits, macs = ([int(row[at].replace(",", "")) for row in rows] for at in (1, 2))
    assert limits == sorted(set(limits))
    assert all(cost <= limit for cost, limit in zip(macs, limits, strict=True))
    assert min(float(row[4]) for row in rows) > 0.4
    assert "points lost against the same networks trained alone" in said
    for name in ("small", "medium", "large"):
        command = "import sys, mutators; print(sum(p.numel() for p in mutators.load_subnet(sys.argv[1]).parameters()))"
        parameters = run("-c", command, str(out / name), cwd=EXAMPLES / "ofa", home=tmp_path)
        assert f"{int(parameters):,}" == dict((row[0], row[3]) for row in rows)[name]


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
