"""A throw-away SSH server on the loopback address, for NNI's remote training service: own keys, own home folder."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import psutil

from tests.experiments.nni_experiment import BIN, end_processes
from tests.ports import free_port

ROOT = Path(__file__).parent.parent.parent
SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
_SECONDS = 20

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding no
Subsystem sftp internal-sftp
SetEnv {environment}
"""


class SshdMissing(RuntimeError):
    """There is no SSH server here, or it does not let this user in; the message says why."""


class Sshd:
    """Use with ``with``. Who logs in gets ``home`` as home folder, and this Python environment's packages.

    NNI's worker runs ``pip install nni --upgrade`` on every machine: ``PIP_NO_INDEX`` makes that a look at what is
    installed, on machines with any index or none. Shells read no start-up files, since there are none in ``home``.

    Raises:
        SshdMissing: no sshd is installed, it does not start, or it refuses the login.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.port = folder, folder / "home", free_port()
        self.key, self.user = folder / "user_key", getpass.getuser()

    def __enter__(self) -> Self:
        programs = {name: shutil.which(name, path=SBIN) for name in ("sshd", "ssh", "ssh-keygen")}
        missing = [name for name, path in programs.items() if path is None]
        if missing:
            raise SshdMissing(f"no {', '.join(missing)}: apt-get install openssh-server")
        self.home.mkdir(parents=True)
        for name in ("host_key", "user_key"):
            words = [str(programs["ssh-keygen"]), "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(words, check=True)
        (self.folder / "sshd_config").write_text(self._config())
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it, empty, where it runs as root
        with open(self.folder / "sshd.log", "wb") as log:
            words = [str(programs["sshd"]), "-D", "-e", "-f", str(self.folder / "sshd_config")]
            self._process = psutil.Popen(words, stderr=log, stdin=subprocess.DEVNULL)
        try:
            self._log_in(str(programs["ssh"]))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the server, its sessions, and what they have left running."""
        processes = [*self._process.children(recursive=True), self._process] if self._process.is_running() else []
        for process in processes:
            process.kill()
        self._process.wait(10)
        end_processes(self.home)
        shutil.rmtree(self.folder, ignore_errors=True)

    def machine(self) -> dict[str, object]:
        """This server as an entry of NNI's ``machineList``."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": self.user,
            "sshKeyFile": str(self.key),
            "pythonPath": str(BIN),
        }

    def _config(self) -> str:
        settings = {"HOME": self.home, "PYTHONPATH": ROOT, "PIP_NO_INDEX": 1, "OMP_NUM_THREADS": 1}
        environment = " ".join(f'"{name}={value}"' for name, value in settings.items())
        return CONFIG.format(port=self.port, folder=self.folder, environment=environment)

    def _log_in(self, ssh: str) -> None:
        """Log in as NNI will, as soon as the server listens."""
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes"]
        words = [ssh, "-F", "none", "-p", str(self.port), "-i", str(self.key), *(f"-o{option}" for option in options)]
        words += [f"{self.user}@127.0.0.1", f"{sys.executable} -c 'import nni'"]
        deadline = time.monotonic() + _SECONDS
        while True:
            done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
            if done.returncode == 0:
                return
            if self._process.poll() is not None or "refused" not in done.stderr or time.monotonic() > deadline:
                lines = (self.folder / "sshd.log").read_text().strip().splitlines()[-2:]
                raise SshdMissing(f"cannot log in: {done.stderr.strip()}; sshd says: {'; '.join(lines)}")
            time.sleep(0.1)
