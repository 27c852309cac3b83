"""``nas resume``: bring an experiment back after a stop, a crash or a kill, whatever was left over of it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from nas_tuners.commands import CommandError
from nas_tuners.hosts.nni.manager import Manager, ManagerError, experiments, folder_of

_PATIENCE = 60.0  # seconds until a resumed experiment has to be up


def resume(experiment: str, port: int | None = None) -> int:
    """Resume an experiment. Returns: the port of its manager.

    Raises:
        CommandError: it runs already, or nnictl cannot resume it.
    """
    folder = folder_of(experiment)
    entry = experiments()[experiment]
    dispatchers = _dispatchers(folder)
    if _manager_alive(entry):
        status = Manager(f"http://localhost:{entry['port']}").status()[0]
        if dispatchers and status != "ERROR":
            raise CommandError(
                f"experiment {experiment} is {status} on port {entry['port']}: there is nothing to resume."
            )
        _say("its tuner is gone: stopping what is left of it")
        nnictl("stop", experiment)
    for process in dispatchers:
        _say(f"ending the tuner that was left over, process {process.pid}")
        _end(process)
    port = port or _free_port(int(entry.get("port") or 0))
    for attempt in (1, 2):  # nnictl gives up after four seconds if the manager is slow to start
        _say(f"resuming on port {port}" + (" once more" if attempt == 2 else ""))
        done = nnictl("resume", experiment, "--port", str(port))
        if _up(port, experiment):
            return port
        if attempt == 1:
            nnictl("stop", experiment)
    raise CommandError(f"nnictl cannot resume {experiment}: {' '.join(done.split())[-300:]}")


def _say(text: str) -> None:
    """All this may take half a minute."""
    sys.stderr.write(f"{text} ...\n")


def nnictl(*words: str) -> str:
    """Run nnictl of this Python environment. Returns: what it printed."""
    command = [str(Path(sys.executable).with_name("nnictl")), *words]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError as error:
        raise CommandError(
            f"cannot run {command[0]}: {error.strerror}. Is nni installed in this environment?"
        ) from None
    return done.stdout


def _dispatchers(folder: Path) -> list[psutil.Process]:
    """The tuner processes of one experiment, and of no other."""
    checkpoint = str(folder / "checkpoint")
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = process.cmdline()
            if words[1:3] == ["-m", "nni"] and process.environ().get("NNI_CHECKPOINT_DIRECTORY") == checkpoint:
                found.append(process)
    return found


def _end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.terminate()
        try:
            process.wait(3)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(10)


def _manager_alive(entry: dict[str, Any]) -> bool:
    with contextlib.suppress(psutil.Error, ValueError, TypeError):
        process = psutil.Process(int(entry["pid"]))
        return process.status() != psutil.STATUS_ZOMBIE and any("nni" in word for word in process.cmdline())
    return False


def _free_port(wanted: int) -> int:
    """``wanted``, if nobody listens there, else any free port."""
    for candidate in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("", candidate))
                return int(probe.getsockname()[1])
    raise CommandError("there is no free port.")


def _up(port: int, experiment: str) -> bool:
    manager, deadline = Manager(f"http://localhost:{port}"), time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(ManagerError):
            if manager.get("experiment").get("id") == experiment and manager.status()[0] != "INITIALIZED":
                return manager.status()[0] != "ERROR"
        if experiments().get(experiment, {}).get("status") == "STOPPED":
            return False
        time.sleep(0.5)
    return False
