"""Resume an NNI experiment after a stop, a crash or a kill, whichever of its processes are left."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from nas_tuners.hosts.nni.database import mend_jobs, read_config, read_jobs
from nas_tuners.hosts.nni.experiments import folder_of, list_experiments
from nas_tuners.hosts.nni.launch import Launched, LaunchError
from nas_tuners.hosts.nni.manager import Manager, ManagerError
from nas_tuners.hosts.nni.results import settle_kept
from nas_tuners.runs.journal import JOURNAL
from nas_tuners.runs.run import Ledger, Run, arguments_in, load


def resume_experiment(experiment: str, port: int | None = None) -> int:
    """Resume an experiment. Returns: its port. Raises ManagerError if it runs already, or NNI cannot resume it."""
    folder = folder_of(experiment)
    entry = list_experiments()[experiment]
    tuners = _find_tuners(folder)
    if _is_manager_alive(entry):
        status = Manager(f"http://localhost:{entry['port']}").status()[0]
        if tuners and status != "ERROR":
            raise ManagerError(
                f"experiment {experiment} is {status} on port {entry['port']}: there is nothing to resume."
            )
        _say("its tuner process is gone: stopping the rest of it")
        call_nnictl("stop", experiment)
    for process in tuners:
        _say(f"ending a tuner process that was left, {process.pid}")
        _end(process)
    port = port or find_port(int(entry.get("port") or 0))
    _mend(folder)
    _say(f"resuming on port {port}")
    try:
        config = read_config(folder / "db" / "nni.sqlite")
        Launched({**config, "experimentWorkingDirectory": str(folder.parent)}, port, experiment)
    except (sqlite3.Error, ValueError, LaunchError) as error:
        why = [] if isinstance(error, LaunchError) else [f"log: {folder / 'log' / 'dispatcher.log'}"]
        raise ManagerError("\n".join([f"NNI cannot resume {experiment}: {error}", *why])) from None
    return port


def _mend(folder: Path) -> None:
    """Let NNI run again only what has no result; the tuner hands out the rest of that."""
    journal, database = folder / "checkpoint" / JOURNAL, folder / "db" / "nni.sqlite"
    if not (journal.is_file() and database.is_file()):
        return
    header = load(journal)[1]
    run = Run.resume(Ledger(score_key=arguments_in(header).get("score_key", "default")), journal)
    try:
        told = settle_kept(run, read_jobs(database))
        pending = [{**proposal.parameters, "_uid": proposal.uid, "_run": run.id} for proposal in run.search.pending]
        mended = mend_jobs(database, pending)
    except (sqlite3.Error, ValueError) as error:
        _say(f"warning: cannot mend NNI's database, so that trials may run twice: {error}")
        return
    finally:
        run.close()
    if told:
        _say(f"NNI had kept {told} results that the tuner never received")
    if mended:
        _say(f"NNI had {mended} trials noted under parameters of others")


def _say(text: str) -> None:
    """Write a line to stderr, since a resume may take half a minute."""
    sys.stderr.write(f"{text} ...\n")


def call_nnictl(*words: str) -> str:
    """Run nnictl of this Python environment. Returns: what it printed."""
    command = [str(Path(sys.executable).with_name("nnictl")), *words]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError as error:
        raise ManagerError(
            f"cannot run {command[0]}: {error.strerror}. Is nni installed in this environment?"
        ) from None
    return done.stdout


def _find_tuners(folder: Path) -> list[psutil.Process]:
    """Return the tuner processes of this experiment."""
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


def _is_manager_alive(entry: dict[str, Any]) -> bool:
    with contextlib.suppress(psutil.Error, ValueError, TypeError, KeyError):
        process = psutil.Process(int(entry["pid"]))
        return process.status() != psutil.STATUS_ZOMBIE and any("nni" in word for word in process.cmdline())
    return False


def find_port(wanted: int) -> int:
    """Return the wanted port if no process listens there, else any free one."""
    for candidate in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("", candidate))
                return int(probe.getsockname()[1])
    raise ManagerError("there is no free port.")
