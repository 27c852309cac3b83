"""NNI's manager as seen from outside: the REST interface of one experiment, and where experiments lie on the disk."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

_TIMEOUT = 10  # seconds


class ManagerError(RuntimeError):
    """The manager of an experiment cannot be reached, or refuses."""


class Manager:
    """The REST interface of a running experiment.

    Args:
        url: such as ``http://localhost:8080``, with the experiment's ``urlPrefix`` where it has one.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @classmethod
    def of_tuner(cls) -> Manager | None:
        """Return the manager of the tuner that this process is, or None outside of an experiment."""
        channel = os.environ.get("NNI_TUNER_COMMAND_CHANNEL", "")
        if not channel.startswith("ws://"):
            return None
        return cls("http://" + channel.removeprefix("ws://").removesuffix("/tuner"))

    def get(self, path: str) -> Any:
        """Return the answer to GET ``path``, such as ``check-status``."""
        return self._call("GET", path)

    def trial_jobs(self) -> list[dict[str, Any]]:
        """Every trial job of the experiment. Which parameters NNI says a job ran is not to be trusted."""
        jobs = self.get("trial-jobs")
        return [job for job in jobs if isinstance(job, dict)] if isinstance(jobs, list) else []

    def status(self) -> tuple[str, list[str]]:
        """The experiment's status, such as RUNNING or DONE, and its errors."""
        answer = self.get("check-status")
        return str(answer.get("status")), [str(error) for error in answer.get("errors", [])]

    def end_at(self, trials: int) -> None:
        """Lower the number of trials that the experiment may have, so that it comes to an end."""
        body = {"params": {"maxTrialNumber": trials}}
        self._call("PUT", "experiment?update_type=MAX_TRIAL_NUM", body)

    def add_trial(self, parameters: Any) -> None:
        """Queue a trial of one's own choosing, as the web page's *customized trial* does."""
        self._call("POST", "trial-jobs", parameters)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/api/v1/nni/{path}", data=data, method=method, headers={"Content-Type": "application/json"}
        )
        # The manager is on this machine: a proxy from the environment would only be in the way.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=_TIMEOUT) as answer:
                text = answer.read()
            return json.loads(text) if text else None
        except (OSError, ValueError) as error:  # URLError is an OSError
            raise ManagerError(f"{method} {request.full_url} failed: {error}") from None


def experiments(home: Path | None = None) -> dict[str, dict[str, Any]]:
    """What nnictl knows of the experiments of a user, by id.

    Args:
        home: the user's home folder; None: one's own.

    Raises:
        ManagerError: the list cannot be read.
    """
    path = (home or Path.home()) / "nni-experiments" / ".experiment"
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ManagerError(f"cannot read nnictl's list of experiments, {path}: {error}") from None
        except ValueError as error:  # NNI writes it in place, so that it may be half written just now
            if time.monotonic() > deadline:
                raise ManagerError(
                    f"nnictl's list of experiments, {path}, is no JSON: {error}. Was NNI killed while writing it? Move "
                    f"it away; the experiments themselves lie in folders beside it."
                ) from None
            time.sleep(0.02)
        else:
            return {name: entry for name, entry in known.items() if isinstance(entry, dict)}


def folder_of(experiment: str) -> Path:
    """Where an experiment keeps its files; ``latest`` is the one that was started last.

    Raises:
        ManagerError: there is no such experiment.
    """
    known = experiments()
    if experiment == "latest" and known:
        experiment = max(known, key=lambda name: known[name].get("startTime") or 0)
    entry = known.get(experiment)
    if entry is None:
        raise ManagerError(f"there is no experiment {experiment!r}; nnictl experiment list --all names them.")
    return Path(str(entry.get("logDir") or Path.home() / "nni-experiments")) / experiment
