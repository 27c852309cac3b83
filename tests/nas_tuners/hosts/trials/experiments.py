"""Experiments whose trials start in milliseconds: they speak NNI's protocol of local trials without importing NNI."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from nas_tuners import EvolutionTuner
from nas_tuners.hosts.nni.tuner import SearchTuner
from nas_tuners.hosts.trials.loop import MakePool, OnIntermediate, run_trials
from nas_tuners.hosts.trials.plan import TrialPlan
from nas_tuners.hosts.trials.pool import Pool
from nas_tuners.runs.run import Run
from search_spaces import Space

SPACE = {f"k{i}": {"_type": "layer_choice", "_value": list("abcd")} for i in range(6)}
COMMAND = f"{sys.executable} -S trial.py"
TALK = """
import json, os, signal, subprocess, sys, time

folder = os.environ["NNI_SYS_DIR"]

def get():
    with open(os.path.join(folder, "parameter.cfg")) as file:
        return json.load(file)["parameters"]

def report(value, type="FINAL", sequence=0):
    record = {"parameter_id": 0, "trial_job_id": "", "type": type, "sequence": sequence, "value": json.dumps(value)}
    line = (json.dumps(record) + "\\n").encode()
    with open(os.path.join(folder, ".nni", "metrics"), "ab") as file:
        file.write(b"ME%06d%b" % (len(line), line))

def between(value, sequence=0):
    report(value, "PERIODICAL", sequence)

given = get()
uid, good = given["_uid"], sum(given[f"k{i}"]["_idx"] for i in range(6))
"""
REPORT = "report(good)\n"


def good(choices: dict[str, Any]) -> int:
    """Return what the trials of ``REPORT`` report."""
    return sum(choices[key]["_idx"] for key in SPACE)


def write_trial(folder: Path, body: str) -> None:
    """Write ``trial.py``: what ``body`` does with the parameters, ``good`` and ``uid`` among them."""
    (folder / "trial.py").write_text(TALK + body)


def write_config(folder: Path, **changes: Any) -> Path:
    """Write ``config.yml`` of six trials one at a time; None leaves an entry out."""
    config = {
        "searchSpace": SPACE,
        "trialCommand": COMMAND,
        "trialConcurrency": 1,
        "maxTrialNumber": 6,
        "tuner": {
            "className": "nas_tuners.EvolutionTuner",
            "codeDirectory": ".",
            "classArgs": {"seed": 5, "candidate_pool_size": 4},
        },
        "trainingService": {"platform": "local"},
        **changes,
    }
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump({name: value for name, value in config.items() if value is not None}))
    return path


def make_tuner(**arguments: Any) -> SearchTuner:
    tuner: SearchTuner = EvolutionTuner(seed=5, candidate_pool_size=4, **arguments)  # type: ignore[call-arg]
    tuner.update_search_space(Space.from_json(SPACE).to_json())
    return tuner


def run_here(
    folder: Path,
    body: str = REPORT,
    on_intermediate: OnIntermediate | None = None,
    tuner: SearchTuner | None = None,
    make_pool: MakePool = Pool,
    **experiment: Any,
) -> Run:
    """Run trials of such a body in the process of the test, with a journal in memory. Returns: the run."""
    write_trial(folder, body)
    tuner = tuner or make_tuner()
    settings = {"command": COMMAND, "folder": str(folder), "concurrency": 1, "trials": 4, **experiment}
    run_trials(tuner.results, TrialPlan(**settings), folder, None, on_intermediate, make_pool)
    return tuner.run
