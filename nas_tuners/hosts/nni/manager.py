"""Talk to NNI's manager, the process that runs an experiment, by its REST interface."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas_tuners.runs.importing import decode_metric

_TIMEOUT = 10  # seconds
CANCELED = ("USER_CANCELED", "EARLY_STOPPED")  # NNI shows either for a trial that an assessor has stopped
ENDED = (*CANCELED, "SUCCEEDED", "FAILED", "SYS_CANCELED")


class ManagerError(RuntimeError):
    """An experiment is not known, or its manager cannot be reached or refuses."""


@dataclass(frozen=True)
class Job:
    """A trial job as NNI tells of it: what it *meant* to give it, which another process may have taken."""

    id: str
    status: str
    parameter_id: int | None = None
    parameters: object = None
    final_id: int | None = None  # the parameter id that its final metric came with: that of what it really ran

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Job:
        """Read a job of the manager's answer."""
        packed = answer.get("hyperParameters") or [None]
        record = json.loads(packed[0]) if isinstance(packed[0], str) else packed[0]
        record = record if isinstance(record, dict) else {}
        final = answer.get("finalMetricData") or [{}]
        return cls(
            *(str(answer.get("trialJobId") or answer.get("id")), str(answer.get("status"))),
            *(_to_id(record.get("parameter_id")), record.get("parameters"), _to_id(final[0].get("parameterId"))),
        )


@dataclass(frozen=True)
class Metrics:
    """The results that a trial job has reported."""

    parameter_id: int | None  # that of what it ran
    intermediates: int
    last: object  # of the intermediate results
    final: bool  # whether it has reported a final metric
    final_value: object = None


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

    def trial_jobs(self) -> list[Job]:
        """Return every trial job of the experiment."""
        jobs = self.get("trial-jobs")
        return [Job.of(job) for job in jobs if isinstance(job, dict)] if isinstance(jobs, list) else []

    def metrics(self, job: str) -> Metrics:
        """Return what a trial job has reported so far."""
        rows = [row for row in self.get(f"metric-data/{job}") or [] if isinstance(row, dict)]
        between = [row for row in rows if row.get("type") == "PERIODICAL"]
        last = max(between, key=lambda row: int(row.get("sequence") or 0), default={})
        final = next((row for row in rows if row.get("type") == "FINAL"), None)
        return Metrics(
            _to_id(rows[0].get("parameterId")) if rows else None,
            *(len(between), decode_metric(last.get("data"))),
            *(final is not None, decode_metric((final or {}).get("data"))),
        )

    def status(self) -> tuple[str, list[str]]:
        """Return the experiment's status, such as RUNNING or DONE, and its errors."""
        answer = self.get("check-status")
        return str(answer.get("status")), [str(error) for error in answer.get("errors", [])]

    def end_at(self, trials: int) -> None:
        """Lower the experiment's number of trials, so that it ends."""
        self._call("PUT", "experiment?update_type=MAX_TRIAL_NUM", {"params": {"maxTrialNumber": trials}})

    def add_trial(self, parameters: object) -> None:
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


def _to_id(value: Any) -> int | None:
    """Return a parameter id, which the database keeps as a text; None for a trial that was added by hand."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
