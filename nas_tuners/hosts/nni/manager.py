"""Talk to NNI's manager, the process that runs an experiment, by its REST interface."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any

_TIMEOUT = 10  # seconds


class ManagerError(RuntimeError):
    """An experiment is not known, or its manager cannot be reached or refuses."""


class Manager:
    """The REST interface of a running experiment, at a ``url`` such as http://localhost:8080 and its ``urlPrefix``."""

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
        """Return every trial job of the experiment. The parameters that NNI gives for a job are often wrong."""
        jobs = self.get("trial-jobs")
        return [job for job in jobs if isinstance(job, dict)] if isinstance(jobs, list) else []

    def status(self) -> tuple[str, list[str]]:
        """Return the experiment's status, such as RUNNING or DONE, and its errors."""
        answer = self.get("check-status")
        return str(answer.get("status")), [str(error) for error in answer.get("errors", [])]

    def end_at(self, trials: int) -> None:
        """Lower the experiment's number of trials, so that it ends."""
        self._call("PUT", "experiment?update_type=MAX_TRIAL_NUM", {"params": {"maxTrialNumber": trials}})

    def add_trial(self, parameters: Any) -> None:
        """Queue a trial with given parameters, as the web page's *customized trial* does."""
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
