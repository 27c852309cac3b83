"""A real NNI experiment on this machine, for tests: its own home folder, a free port, stopped whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, Self

import psutil
import yaml

from nas_tuners.hosts.nni.experiments import list_experiments
from nas_tuners.hosts.nni.manager import Manager, ManagerError
from tests.ports import free_port

BIN = Path(sys.executable).parent
_STARTS = Lock()  # experiments may run side by side, but each is given the machine for its start: NNI waits seconds
SPACE = {f"k{i}": {"_type": "layer_choice", "_value": ["a", "b", "c"]} for i in range(4)}

# A trial whose metric is a pure function of its choices, so that any wrong pairing shows. No torch: it starts fast.
TRIAL = """
import nni
choices = nni.get_next_parameter()
keys = [key for key in sorted(choices) if key[0] == "k"]
nni.report_final_result(sum((i + 2) * choices[key]["_idx"] for i, key in enumerate(keys)))
"""


def expected(choices: dict[str, Any]) -> float:
    """What TRIAL reports for ``choices``."""
    keys = [key for key in sorted(choices) if key[0] == "k"]
    return float(sum((i + 2) * choices[key]["_idx"] for i, key in enumerate(keys)))


class Experiment:
    """Create with ``with``; the experiment runs then, and is stopped at the end."""

    def __init__(self, home: Path, space: Any = None, trial: str = TRIAL, tuner: Any = None, **config: Any) -> None:
        self.home, self.code = home, home / "code"
        self.code.mkdir(parents=True)
        self.port = free_port()
        self.env = self.environment(home)
        (self.code / "trial.py").write_text(trial)
        (self.code / "space.json").write_text(json.dumps(space or SPACE))
        default = {"className": "nas_tuners.AnnealingTuner", "classArgs": {"init_temperature": 2.0, "seed": 1}}
        self.config = {
            "searchSpaceFile": "space.json",
            "trialCommand": f"{sys.executable} trial.py",
            "trialConcurrency": 2,
            "maxTrialNumber": 12,
            "tuner": tuner if tuner and "name" in tuner else {"codeDirectory": ".", **(tuner or default)},
            "trainingService": {"platform": "local"},
            **config,
        }
        (self.code / "config.yml").write_text(yaml.safe_dump(self.config))
        self.id = ""

    @classmethod
    def of(cls, home: Path, folder: Path, name: str = ".", **environment: str) -> Self:
        """The experiment that ``folder / name / config.yml`` describes; all of ``folder`` is copied."""
        experiment = cls(home)
        shutil.rmtree(experiment.code)
        shutil.copytree(folder, experiment.code)
        experiment.code /= name
        experiment.env |= environment
        return experiment

    @staticmethod
    def environment(home: Path) -> dict[str, str]:
        """NNI keeps its experiments in the home folder; the commands of this Python environment come first."""
        return {**os.environ, "HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}"}

    def __enter__(self) -> Self:
        for _ in range(8):
            with _STARTS:
                said = self.call("nnictl", "create", "-c", "config.yml", "-p", str(self.port))
                if found := re.search(r"nnictl stop (\w+)", re.sub(r"\x1b\[[0-9;]*m", "", said)):
                    self.id = found.group(1)
                    if self._has_tuner(1):
                        return self
            end_processes(self.home)  # nnictl gives up on its manager after four seconds
        self.__exit__()
        raise AssertionError(f"nnictl create failed: {said}")

    def __exit__(self, *_: object) -> None:
        end_processes(self.home)
        shutil.rmtree(self.home, ignore_errors=True)

    def resume(self) -> str:
        """Run ``nas resume``, if need be more than once. Returns: all that was printed."""
        starts, said = self._starts() + 1, ""
        for _ in range(8):
            with _STARTS:
                said += self.call("nas", "resume", self.id)
                if self._has_tuner(starts) or not self._was_too_slow():
                    break
        return said

    def _starts(self) -> int:
        return self.log().count("Initial search space")

    def _has_tuner(self, starts: int) -> bool:
        """Wait until a tuner has been told the space so often, or until NNI gave up on it."""
        deadline = time.monotonic() + 60
        while self._starts() < starts and self.status() != "ERROR" and time.monotonic() < deadline:
            time.sleep(0.1)
        return self._starts() >= starts

    def _was_too_slow(self) -> bool:
        """Return True if NNI gave up on a tuner that took ten seconds to import; no test is about busy machines."""
        return self.status() == "ERROR" and any("did not connect" in error for error in self.manager.status()[1])

    def call(self, *words: str) -> str:
        """Run a command of this environment in the experiment's code folder. Returns: all that it printed."""
        command = [str(BIN / words[0]), *words[1:]]
        done = subprocess.run(
            command,
            cwd=self.code,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
        )
        return done.stdout

    @property
    def folder(self) -> Path:
        return self.home / "nni-experiments" / self.id

    @property
    def journal(self) -> Path:
        return self.folder / "checkpoint" / "journal.jsonl"

    @property
    def manager(self) -> Manager:
        return Manager(f"http://localhost:{self._entry().get('port', self.port)}")

    def show(self) -> dict[str, Any]:
        """What ``nas show --json`` prints."""
        text = self.call("nas", "show", "--json", self.id)
        assert "{" in text, f"{text}\n{self.log()[-3000:]}"
        return json.loads(text[text.index("{") :])  # type: ignore[no-any-return]

    def log(self, name: str = "dispatcher") -> str:
        """Return the log of the tuner's process, or of the "nnimanager"."""
        path = self.folder / "log" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def told(self) -> int:
        """How many results the journal holds now."""
        return self.journal.read_bytes().count(b'"event": "tell"') if self.journal.exists() else 0

    def wait(self, until: Callable[[], bool], seconds: float = 300) -> None:
        """Wait for a state of an experiment; NNI offers no event to wait for."""
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not within {seconds} s; {self.status()}, told {self.told()}\n{self.log()[-3000:]}"
                    f"\n{self.log('nnimanager')[-3000:]}"
                )
            time.sleep(0.2)

    def status(self) -> str:
        try:
            return self.manager.status()[0]
        except ManagerError:
            return "UNREACHABLE"

    def wait_until_done(self, seconds: float = 600) -> None:
        self.wait(lambda: self.status() in ("DONE", "ERROR"), seconds)

    def kill_manager(self) -> None:
        """SIGKILL, as the out-of-memory killer would."""
        os.kill(int(self._entry()["pid"]), signal.SIGKILL)

    def kill_dispatcher(self) -> None:
        """SIGKILL the tuner's process."""
        for process in processes_of(self.home, "-m", "nni"):
            process.kill()
            process.wait(10)

    def _entry(self) -> dict[str, Any]:
        return list_experiments(self.home).get(self.id, {})


def processes_of(home: Path, *words: str) -> list[psutil.Process]:
    """The processes with this home folder, whose arguments begin with ``words``."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("HOME") == str(home)
            if mine and (not words or process.cmdline()[1 : 1 + len(words)] == list(words)):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # it ended meanwhile, or is not ours to look at
    return found


def end_processes(home: Path) -> None:
    """Kill everything that runs with this home folder, and what it starts meanwhile."""
    while processes := processes_of(home):
        for process in processes:
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                process.kill()
        psutil.wait_procs(processes, 10)
