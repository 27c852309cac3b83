"""A real Slurm of one machine: its daemons as children of the test, with all that they write in a folder."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.ports import free_port

DAEMONS = ("munged", "slurmctld", "slurmd")
WHERE = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
JobRequeue=1
KillWait=2
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Return why no Slurm can be started here; None if one can."""
    absent = [name for name in (*DAEMONS, "sbatch") if shutil.which(name, path=WHERE) is None]
    if absent:
        return f"{', '.join(absent)} not installed: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "only root can start munged and slurmd"


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """Start a cluster, and end it. Yields: what its commands need in their environment."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    port = free_port()  # and the next
    names = {"host": platform.node().partition(".")[0], "folder": folder, "user": "root"}
    (folder / "slurm.conf").write_text(CONF.format(controller=port, daemon=port + 1, **names))
    environment = {"PATH": WHERE, "SLURM_CONF": str(folder / "slurm.conf")}
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
    with ExitStack() as stack:
        start = lambda *words: stack.enter_context(_child(folder, environment, *words))  # noqa: E731
        start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files)
        _await("munge", ["munge", "-n", f"--socket={folder}/munge.socket"], "MUNGE", environment)
        start("slurmctld", "-D")
        _await("slurmctld", ["scontrol", "ping"], "UP", environment)
        start("slurmd", "-D")
        _await("slurmd", ["sinfo", "--noheader", "--format=%T"], "idle", environment)
        try:
            yield environment
        finally:
            _end_jobs(environment)


@contextmanager
def _child(folder: Path, environment: dict[str, str], *words: str) -> Iterator[None]:
    """Run a daemon in the foreground; its output is kept beside its files."""
    with open(folder / f"{words[0]}.out", "wb") as out:
        process = subprocess.Popen(words, env={**os.environ, **environment}, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(name: str, words: list[str], answer: str, environment: dict[str, str]) -> None:
    """Ask until a daemon answers; it has 30 seconds."""
    end = time.monotonic() + 30
    while True:
        done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
        if done.returncode == 0 and answer in done.stdout:
            return
        if time.monotonic() > end:
            raise RuntimeError(f"{name} does not answer: {done.stdout}{done.stderr}")
        time.sleep(0.05)


def _end_jobs(environment: dict[str, str]) -> None:
    """Cancel all jobs, and wait for their ends: daemons leave theirs running."""
    with_it = {**os.environ, **environment}
    subprocess.run(["scancel", "--user=root"], env=with_it, check=False)
    end = time.monotonic() + 10
    while time.monotonic() < end and subprocess.check_output(["squeue", "--noheader"], env=with_it):
        time.sleep(0.05)
