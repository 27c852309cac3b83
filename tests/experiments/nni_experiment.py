"""A real NNI experiment on this machine, for tests: its own home folder, a free port, stopped whatever happens."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil
import yaml

from nas_tuners.hosts.nni.experiments import list_experiments
from nas_tuners.hosts.nni.manager import Manager, ManagerError

BIN = Path(sys.executable).parent
SPACE = {f"k{i}": {"_type": "layer_choice", "_value": ["a", "b", "c"]} for i in range(4)}

# A trial whose metric is a pure function of its choices, so that any wrong pairing shows. No torch: it starts fast.
TRIAL = """
import nni
choices = nni.get_next_parameter()
nni.report_final_result(sum((i + 1) * choices[key]["_idx"] for i, key in enumerate(sorted(choices)) if key[0] == "k"))
"""


def expected(choices: dict[str, Any]) -> float:
    """What TRIAL reports for ``choices``."""
    keys = [key for key in sorted(choices) if key[0] == "k"]
    # `_uid` sorts before every key, so the trial counts from 1 where it is there.
    return float(sum((i + 2) * choices[key]["_idx"] for i, key in enumerate(keys)))


def free_port() -> int:
    """A port with a free one after it."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


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
        for _ in range(3):  # on a busy machine nnictl gives up after four seconds, and NNI on a tuner after ten
            text = self.call("nnictl", "create", "-c", "config.yml", "-p", str(self.port))
            found = re.search(r"nnictl stop (\w+)", re.sub(r"\x1b\[[0-9;]*m", "", text))
            if found:
                self.id = found.group(1)
                if self._connected():
                    return self
            self._end_all()
        raise AssertionError(f"nnictl create failed: {text}")

    def _connected(self) -> bool:
        self.wait(lambda: self.status() not in ("INITIALIZED", "UNREACHABLE"), 30)
        return not any("did not connect" in error for error in self.manager.status()[1])

    def __exit__(self, *_: object) -> None:
        self.call("nnictl", "stop", "--all")
        self._end_all()
        shutil.rmtree(self.home, ignore_errors=True)

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
        return json.loads(text[text.index("{") :])  # type: ignore[no-any-return]

    def log(self) -> str:
        """The dispatcher's log."""
        return (self.folder / "log" / "dispatcher.log").read_text()

    def told(self) -> int:
        """How many results the journal holds now."""
        return self.journal.read_bytes().count(b'"event": "tell"') if self.journal.exists() else 0

    def wait(self, until: Callable[[], bool], seconds: float = 120) -> None:
        """Wait for a state of an experiment; NNI offers no event to wait for."""
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not within {seconds} s; {self.status()}, told {self.told()}\n{self.log()[-3000:]}"
                )
            time.sleep(0.2)

    def status(self) -> str:
        try:
            return self.manager.status()[0]
        except ManagerError:
            return "UNREACHABLE"

    def wait_until_done(self, seconds: float = 180) -> None:
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

    def _end_all(self) -> None:
        end_processes(self.home)


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
    """Kill everything that runs with this home folder."""
    for process in processes_of(home):
        try:
            process.kill()
            process.wait(10)
        except psutil.Error:
            continue  # it ended meanwhile
