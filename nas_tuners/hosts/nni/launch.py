"""Start an NNI experiment so that it comes up however busy the machine is.

NNI's launcher gives its manager four seconds, and the manager gives a tuner ten, of which the imports alone take more
where others compute. Differs: the manager is started as for a tuner that somebody else runs (``tunerCommandChannel``),
the tuner's process as the manager would start it, and the experiment begins when the tuner has connected. Nothing is
given up as long as both processes are there.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from nas_tuners.hosts.nni.failures import STARTED, describe_experiment_failures
from nas_tuners.hosts.nni.manager import Manager, ManagerError
from nas_tuners.runs.warden import end_marked

_MARK = "NAS_EXPERIMENT"  # in the environment of all processes of an experiment
_LOOK = 0.05  # seconds between two looks at what offers no event
_PATIENCE = 60.0  # seconds for an answer, and for a process that was told to end
_LOG, _ERRORS = "nnictl_stdout.log", "nnictl_stderr.log"  # of the manager, where nnictl has them


class LaunchError(RuntimeError):
    """An experiment does not come up; the message says why, and where to read more."""


class Launched:
    """An experiment that this process has started. As a context it is stopped at its end, else it goes on by itself.

    Args:
        config: as NNI writes it out, see ``ExperimentConfig.json``.
        port: of NNI's manager; nothing listens there.
        resumed: the id of an experiment to go on with, of which nothing runs; None: a new one.

    Raises:
        LaunchError: the manager or the tuner has ended before the experiment began, or NNI refuses it.
    """

    def __init__(self, config: Mapping[str, Any], port: int, resumed: str | None = None) -> None:
        self.id = resumed or secrets.token_hex(4)
        self.port, self._action = port, "resume" if resumed else "create"
        self.folder = Path(config["experimentWorkingDirectory"], self.id)
        self.manager = Manager(f"http://localhost:{port}", _PATIENCE)
        for name in ("log", "checkpoint"):
            (self.folder / name).mkdir(parents=True, exist_ok=resumed is not None)
        self._starts = self._count_starts()
        self._tuner: subprocess.Popen[bytes] | None = None
        self._process = self._start(_manager_words(config, self.id, port, self._action), {}, _node_folder())
        try:
            self._begin(config)
        except BaseException:
            self.stop()
            raise

    @property
    def is_running(self) -> bool:
        """Return whether NNI's manager is there."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Stop the experiment, with its tuner and its trials."""
        if self.is_running:
            with contextlib.suppress(ManagerError):
                self.manager.stop()
        for process in filter(None, (self._process, self._tuner)):
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        end_marked(f"{_MARK}={self.id}\0")  # trials that the manager has told to end, and what looks for GPUs

    def _begin(self, config: Mapping[str, Any]) -> None:
        from nni.tools.nnictl.config_utils import Experiments  # which takes a second or more

        self._wait_for(self._answers, self._process)
        service = config["trainingService"]
        platform = "hybrid" if isinstance(service, list) else service["platform"]
        name, place = config.get("experimentName"), str(self.folder.parent)
        start, pid = int(time.time() * 1000), self._process.pid
        Experiments().add_experiment(self.id, self.port, start, platform, name, pid=pid, logDir=place)
        entries = self._tuner_environment() | {"CUDA_VISIBLE_DEVICES": _gpus_of_tuner(config)}
        self._tuner = self._start(_tuner_words(config), entries, self.folder / "log")
        self._wait_for(self._has_tuner, self._process, self._tuner)
        with contextlib.suppress(ManagerError):  # it may take longer than that: its status tells
            self.manager.begin(config)
        self._wait_for(lambda: self.manager.status()[0] != "INITIALIZED", self._process, self._tuner)
        status, errors = self.manager.status()
        if status == "ERROR":
            raise LaunchError("\n".join([f"NNI refuses it: {' '.join(errors)}", *self._describe_failure()]))

    def _wait_for(self, condition: Callable[[], bool], *processes: subprocess.Popen[bytes]) -> None:
        """Wait until something holds; raise LaunchError if one of the processes ends before."""
        while True:
            there = all(process.poll() is None for process in processes)
            with contextlib.suppress(ManagerError):
                if condition():
                    return
            if not there:
                raise LaunchError("\n".join(self._describe_failure()))
            time.sleep(_LOOK)

    def _answers(self) -> bool:
        return bool(self.manager.status())

    def _has_tuner(self) -> bool:
        return self._count_starts() > self._starts

    def _count_starts(self) -> int:
        log = self.folder / "log" / "dispatcher.log"
        return log.read_bytes().count(STARTED.encode()) if log.exists() else 0

    def _describe_failure(self) -> list[str]:
        if lines := describe_experiment_failures(self.folder):
            return [*lines[:-1], f"{lines[-1]}; mend that, and start it again"]
        errors = self.folder / "log" / _ERRORS
        words = errors.read_text(encoding="utf-8", errors="replace").split()
        who = "its manager" if self._tuner is None else "its manager or its tuner"
        return [f"NNI does not start: {who} has ended: {' '.join(words)[-300:]}", f"  log: {errors}"]

    def _tuner_environment(self) -> dict[str, str]:
        return {
            "SDK_PROCESS": "dispatcher",
            "NNI_MODE": self._action,
            "NNI_CHECKPOINT_DIRECTORY": str(self.folder / "checkpoint"),
            "NNI_LOG_DIRECTORY": str(self.folder / "log"),
            "NNI_LOG_LEVEL": "info",
            "NNI_INCLUDE_INTERMEDIATE_RESULTS": "false",
            "NNI_TUNER_COMMAND_CHANNEL": _channel(self.port),
        }

    def _start(self, words: list[str], entries: Mapping[str, str], cwd: Path) -> subprocess.Popen[bytes]:
        """Start a process that outlives this one, as nnictl does."""
        log = self.folder / "log"
        with open(log / _LOG, "ab") as out, open(log / _ERRORS, "ab") as errors:
            environment = {**os.environ, _MARK: self.id, **entries}
            return subprocess.Popen(
                words, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, process_group=0
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _channel(port: int) -> str:
    return f"ws://localhost:{port}/tuner"


def _node_folder() -> Path:
    spec = importlib.util.find_spec("nni_node")
    if spec is None or not spec.submodule_search_locations:
        raise LaunchError("NNI's manager is not installed: wanted the package nni_node, which comes with nni.")
    return Path(spec.submodule_search_locations[0])


def _manager_words(config: Mapping[str, Any], experiment: str, port: int, action: str) -> list[str]:
    """Return the command of NNI's manager, see ``nni.experiment.launcher.NniManagerArgs``."""
    folder, service = _node_folder(), config["trainingService"]
    options = {
        "port": port,
        "experiment-id": experiment,
        "action": action,
        "mode": "hybrid" if isinstance(service, list) else service["platform"],
        "experiments-directory": config["experimentWorkingDirectory"],
        "log-level": config["logLevel"],
        "foreground": "false",
        "tuner-command-channel": _channel(port),
        "python-interpreter": sys.executable,
    }
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [str(folder / "node"), "--max-old-space-size=4096", str(folder / "main.js"), *given]


def _tuner_words(config: Mapping[str, Any]) -> list[str]:
    """Return the command of a tuner's process, as NNI's manager has it."""
    known = {name: value for name, value in config.items() if name != "searchSpace"}
    return [sys.executable, "-m", "nni", "--exp_params", base64.b64encode(json.dumps(known).encode()).decode()]


def _gpus_of_tuner(config: Mapping[str, Any]) -> str:
    return ",".join(map(str, config.get("tunerGpuIndices") or ()))
