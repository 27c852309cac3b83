"""Fault 36: ``nas check`` called configurations fine that cannot work, and refused a YAML space, which NNI takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from search_spaces import Space
from tests.nas_tuners.nas import Nas
from tests.spaces import SPACES, layer

SPACE = {"fc": layer("a", "b"), "in": {"_type": "input_choice", "_value": {"candidates": ["x", "y"], "n_chosen": None}}}
TUNER = {"className": "nas_tuners.AnnealingTuner", "codeDirectory": ".", "classArgs": {"seed": 1}}
OWN = """
from nni.assessor import Assessor, AssessResult
class Patient(Assessor):
    def __init__(self, patience=3, optimize_mode="maximize"):
        if patience < 1:
            raise ValueError("patience is too small")
    def assess_trial(self, job, history):
        return AssessResult.Good
class Nobody:
    pass
"""


def config(**changes: Any) -> dict[str, Any]:
    base = {
        "searchSpace": SPACE,
        "trialCommand": "python3 trial.py",
        "trialConcurrency": 2,
        "maxTrialNumber": 4,
        "tuner": TUNER,
        "trainingService": {"platform": "local"},
    }
    return base | changes


def evolution(**arguments: Any) -> dict[str, Any]:
    return {"className": "nas_tuners.EvolutionTuner", "codeDirectory": ".", "classArgs": arguments}


def minimizing(assessor: dict[str, Any]) -> dict[str, Any]:
    return config(tuner=TUNER | {"classArgs": {"optimize_mode": "minimize"}}, assessor=assessor)


def own(**changes: Any) -> dict[str, Any]:
    return {"className": "own.Patient", "codeDirectory": ".", **changes}


GOOD = {
    "Medianstop": config(assessor={"name": "Medianstop", "classArgs": {"start_step": 3}}),
    "alike": minimizing({"name": "Medianstop", "classArgs": {"optimize_mode": "minimize"}}),
    "Curvefitting": config(assessor={"name": "Curvefitting", "classArgs": {"epoch_num": 9}}),
    "own": config(assessor=own(classArgs={"patience": 2})),
    "enough": config(searchSpace=SPACES["20 x 4"], tuner=evolution(preset="spos"), maxTrialNumber=60),
    "no limit": config(tuner=evolution(preset="spos"), maxTrialNumber=None),
}
BAD = {
    "assessor name": (config(assessor={"name": "Mediantsop"}), "did you mean 'Medianstop'?"),
    "a tuner's name": (config(assessor={"name": "Random"}), "assessor.name is 'Random', wanted one of"),
    "arguments": (config(assessor={"name": "Medianstop", "classArgs": {"star_step": 1}}), "did you mean 'start_step'?"),
    "range": (config(assessor={"name": "Medianstop", "classArgs": {"start_step": -1}}), "assessor.classArgs: "),
    "no mapping": (config(assessor="Medianstop"), "assessor is 'Medianstop', wanted a mapping"),
    "own arguments": (config(assessor=own(classArgs={"patienc": 1})), "did you mean 'patience'?"),
    "own range": (config(assessor=own(classArgs={"patience": 0})), "assessor.classArgs: patience is too small"),
    "own class": (config(assessor=own(className="own.Nobody")), "Nobody is not derived from nni.assessor.Assessor"),
    "no class": (config(assessor=own(className="own.Nowhere")), "own has no Nowhere"),
    "no folder": (config(assessor={"className": "own.Patient"}), "assessor.codeDirectory is missing"),
    "modes": (minimizing({"name": "Medianstop"}), "the tuner is to minimize, the assessor to maximize"),
    "own mode": (minimizing(own()), "the tuner is to minimize, the assessor to maximize"),
    "only up": (
        minimizing({"name": "Curvefitting", "classArgs": {"epoch_num": 9}}),
        "report the negative metric, and maximize",
    ),
    "command": (config(trialCommand="  "), "trialCommand is '  ', wanted a command such as python3 trial.py"),
    "concurrency": (config(trialConcurrency=0), "trialConcurrency is 0, wanted a whole number from 1 up"),
    "number": (config(maxTrialNumber=0), "maxTrialNumber is 0, wanted a whole number from 1 up or None"),
    "duration": (config(maxTrialDuration="0s"), "self.max_trial_duration"),
    "advisor": (
        {name: value for name, value in config(advisor={"name": "BOHB"}).items() if name != "tuner"},
        "advisor: NNI 3 takes a tuner and an assessor instead",
    ),
}
DOUBTFUL = {
    "generation": (
        config(searchSpace=SPACES["20 x 4"], tuner=evolution(preset="spos", mode="generation"), maxTrialNumber=3),
        "maxTrialNumber is 3, but Evolution only begins to choose after 50 trials",
    ),
    "population": (
        config(searchSpace=SPACES["20 x 4"], tuner=evolution(), maxTrialNumber=16),
        "maxTrialNumber is 16, but Evolution only begins to choose after 16 trials",
    ),
    "phases": (
        config(
            searchSpace={"a.kernel_size": layer("3", "5"), "s.depth": layer("1", "2")},
            tuner={"className": "nas_tuners.ProgressiveShrinkingTuner", "codeDirectory": "."},
            maxTrialNumber=20,
        ),
        "maxTrialNumber is 20, but Shrinking only begins to choose after",
    ),
    "epoch": (
        config(
            searchSpace=SPACES["20 x 4"],
            tuner=evolution(mode="generation", candidate_pool_size=8),
            trialConcurrency=9,
            maxTrialNumber=60,
        ),
        "trialConcurrency is 9, but an epoch has 8 trials",
    ),
}
OLD = """
authorName: me
experimentName: nas
trialConcurrency: 1
maxExecDuration: 1h
maxTrialNum: 10
trainingServicePlatform: remote
searchSpacePath: search_space.json
useAnnotation: false
tuner:
  builtinTunerName: TPE
  classArgs: {optimize_mode: maximize}
assessor:
  codeDir: .
  classFileName: own.py
  className: Patient
trial: {command: python3 trial.py, codeDir: ., gpuNum: 0}
machineList: [{ip: 10.0.0.1, username: me, passwd: x}]
"""
NEW = (
    "authorName: leave it out",
    "maxExecDuration: write maxExperimentDuration: 1h",
    "maxTrialNum: write maxTrialNumber: 10",
    "searchSpacePath: write searchSpaceFile: search_space.json",
    "trainingServicePlatform: write trainingService: {platform: remote}",
    "tuner.builtinTunerName: write tuner: {name: TPE}",
    "assessor.classFileName: write className: own.Patient",
    "assessor.codeDir: write codeDirectory: .",
    "trial.command: write trialCommand: python3 trial.py",
    "trial.codeDir: write trialCodeDirectory: .",
    "trial.gpuNum: write trialGpuNumber: 0",
    "machineList: write it under trainingService, with host for ip, user for username, password for passwd",
)


def check(nas: Nas, folder: Path, written: Any, code: int = 0) -> str:
    (folder / "own.py").write_text(OWN)
    (folder / "config.yml").write_text(written if isinstance(written, str) else yaml.safe_dump(written))
    return nas("check", "config.yml", "--trust-code", cwd=folder, code=code)


@pytest.mark.parametrize("name", GOOD)
def test_check_accepts_what_works(nas: Nas, tmp_path: Path, name: str) -> None:
    assert "config.yml is fine" in check(nas, tmp_path, GOOD[name])


def test_check_counts_what_is_left_beside_fixed_keys(nas: Nas, tmp_path: Path) -> None:
    space = {f"k{i}": {"_type": "layer_choice", "_value": ["a", "b", "c"]} for i in range(3)}
    written = config(searchSpace=space, tuner=evolution(fixed={"k0": "b"}), maxTrialNumber=20)
    said = check(nas, tmp_path, written)
    assert "9 architectures" in said and "the experiment ends after 9 trials, not 20" in said


@pytest.mark.parametrize("name", BAD)
def test_check_names_what_cannot_work_and_what_to_write(nas: Nas, tmp_path: Path, name: str) -> None:
    written, said = BAD[name]
    assert said in check(nas, tmp_path, written, code=1)


@pytest.mark.parametrize("name", DOUBTFUL)
def test_check_warns_of_numbers_with_which_a_tuner_cannot_do_its_work(nas: Nas, tmp_path: Path, name: str) -> None:
    """No error: a short run may be meant to try the rest of a configuration."""
    written, warned = DOUBTFUL[name]
    said = check(nas, tmp_path, written)
    assert f"nas: warning: {warned}" in said
    assert "can be run" in said and "is fine" not in said


def test_a_file_of_nni_1_gets_a_hint_for_each_of_its_names(nas: Nas, tmp_path: Path) -> None:
    said = check(nas, tmp_path, OLD, code=1)
    assert "config.yml is a configuration of NNI 1:" in said
    assert [line for line in NEW if line not in said] == []


@pytest.mark.parametrize("name", ["space.yml", "space.yaml", "space.json"])
def test_a_yaml_space_is_taken_as_nni_takes_it(nas: Nas, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(yaml.safe_dump(SPACE, default_flow_style=False))
    written = {key: value for key, value in config(searchSpaceFile=name).items() if key != "searchSpace"}
    assert Space.from_json(SPACE).digest in check(nas, tmp_path, written)
    assert Space.from_json(SPACE).digest in nas("check", name, cwd=tmp_path)


def test_a_wrong_yaml_space_is_explained(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "space.yml").write_text("fc:\n  _type: layer_choice\n  _value: []\n")
    assert "key 'fc'._value: got []" in nas("check", "space.yml", cwd=tmp_path, code=1)
    (tmp_path / "space.json").write_text("just text")
    assert "is neither JSON nor JSON5" in nas("check", "space.json", cwd=tmp_path, code=1)


def test_nas_search_takes_a_yaml_space_too(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "space.yml").write_text(yaml.safe_dump(SPACE))
    said = nas("search", "space.yml", "--evaluate", "builtins:len", "--trials", "3", "-o", "run", cwd=tmp_path)
    assert "best 2" in said
    header = json.loads((tmp_path / "run" / "journal.jsonl").read_text().splitlines()[0])
    assert header["digest"] == Space.from_json(SPACE).digest
