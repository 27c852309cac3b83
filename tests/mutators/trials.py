"""Runs trial scripts as processes of their own. Forked after the imports, so that each costs milliseconds.

As a program: reads one JSON case a line, {"script", "folder", "env"}, and answers with its exit code.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
PARAMETERS = {
    "first_conv": {"_value": "conv3x3", "_idx": 1},
    "mid_conv": {"_value": "1", "_idx": 1},
    "skip": {"_value": [""], "_idx": [1]},
    "lr": 0.1,
    "_uid": 7,
}
HEADER = """
import os, sys
import nni
from mutators import get_and_apply_next_architecture, report_final, report_intermediate
from tests.mutators.models import Mnist
"""
EXPERIMENT = {
    "NNI_PLATFORM": "local",
    "NNI_TRIAL_JOB_ID": "job",
    "NNI_TRIAL_COMMAND_CHANNEL": "import://tests.mutators.channel.Recorder",
    "REUSE_MODE": "true",  # else nni sends print to a file in the working directory
}


class Outcome:
    """What a trial did."""

    def __init__(self, folder: Path, code: int) -> None:
        self.code = code
        self.out, self.err = (folder / "out").read_text(), (folder / "err").read_text()
        log = folder / "channel.jsonl"
        self.sent: list[dict[str, Any]] = (
            [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        )

    @property
    def asked(self) -> int:
        """How often parameters were asked for."""
        return sum(event["type"] == "ask" for event in self.sent)

    @property
    def finals(self) -> list[Any]:
        return [event["value"] for event in self.sent if event["type"] == "FINAL"]


def start() -> subprocess.Popen[str]:
    """Start the process that trials of an experiment are forked from."""
    command = [sys.executable, "-W", "error", "-m", "tests.mutators.trials"]
    env = {**os.environ, **EXPERIMENT}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run(process: subprocess.Popen[str], folder: Path, body: str, parameters: Any = PARAMETERS, **env: str) -> Outcome:
    """Run a trial script in an experiment that hands out ``parameters``."""
    (folder / "trial.py").write_text(HEADER + body)
    (folder / "parameters.json").write_text(json.dumps(parameters))
    case = {"script": str(folder / "trial.py"), "folder": str(folder), "env": env}
    _pipe(process.stdin).write(json.dumps(case) + "\n")
    _pipe(process.stdin).flush()
    return Outcome(folder, json.loads(_pipe(process.stdout).readline()))


def run_alone(folder: Path, body: str, parameters: Any = PARAMETERS, **env: str) -> Outcome:
    """Run a trial script in an interpreter of its own, in an experiment only if ``env`` says so."""
    (folder / "trial.py").write_text(HEADER + body)
    (folder / "parameters.json").write_text(json.dumps(parameters))
    full = {**os.environ, "PYTHONPATH": str(ROOT), "RECORDER_FOLDER": str(folder), **env}
    with open(folder / "out", "w") as out, open(folder / "err", "w") as err:
        code = subprocess.run([sys.executable, "trial.py"], cwd=folder, env=full, stdout=out, stderr=err).returncode
    return Outcome(folder, code)


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _become_a_trial() -> dict[str, Any]:
    """Serve cases; return, in a new process, the one that it should run."""
    for line in sys.stdin:
        case: dict[str, Any] = json.loads(line)
        child = os.fork()
        if not child:
            return case
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    raise SystemExit


if __name__ == "__main__":
    for module in ("nni.runtime.trial_command_channel", "mutators.trial", "tests.mutators.models"):
        import_module(module)  # once, and before the forks
    gc.freeze()  # a fork then has little to clean up when it ends
    todo = _become_a_trial()
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(Path(todo["folder"], name), os.O_CREAT | os.O_WRONLY | os.O_TRUNC), descriptor)
    os.environ.update({"RECORDER_FOLDER": todo["folder"], **todo["env"]})
    exec(compile(Path(todo["script"]).read_text(), todo["script"], "exec"), {"__name__": "__main__"})
