"""Talk to NNI's manager, the process that runs an experiment, by its REST interface."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nas_tuners.runs.importing import decode_metric, uid_in

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
    final_value: object = None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Job:
        """Read a job of the manager's answer."""
        packed = answer.get("hyperParameters") or [None]
        final = (answer.get("finalMetricData") or [{}])[0]
        return cls(
            *(str(answer.get("trialJobId") or answer.get("id")), str(answer.get("status"))),
            *read_parameters(packed[0]),
            *(to_id(final.get("parameterId")), decode_metric(final.get("data"))),
        )


def find_uids(jobs: Iterable[Job]) -> dict[str, int]:
    """Return by job the uid of what it ran, for those with a final metric whose parameters are known.

    A metric has the id of the parameters that its trial got, which is unique in one process of the tuner only. Those
    ids rise, so that jobs belong together until one has a lower id.

    Args:
        jobs: in the order of their start.
    """
    processes: list[dict[int, Job]] = []
    last = None
    for job in jobs:
        if job.parameter_id is not None:
            if last is None or job.parameter_id <= last:
                processes.append({})
            processes[-1][last := job.parameter_id] = job
    found = {}
    for process in processes:
        for job in process.values():
            meant = None if job.final_id is None else process.get(job.final_id)
            if meant is not None and (uid := uid_in(meant.parameters)) is not None:
                found[job.id] = uid
    return found


@dataclass(frozen=True)
class Metrics:
    """The results that a trial job has reported."""

    parameter_id: int | None  # that of what it ran
    intermediates: int
    last: object  # of the intermediate results
    final: bool  # whether it has reported a final metric
    final_value: object = None


class Manager:
    """The REST interface of a running experiment, at a ``url`` such as http://localhost:8080 and its ``urlPrefix``.

    ``timeout``: seconds to wait for an answer.
    """

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        self.url, self._timeout = url.rstrip("/"), timeout

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
            to_id(rows[0].get("parameterId")) if rows else None,
            *(len(between), decode_metric(last.get("data"))),
            *(final is not None, decode_metric((final or {}).get("data"))),
        )

    def status(self) -> tuple[str, list[str]]:
        """Return the experiment's status, such as RUNNING or DONE, and its errors."""
        answer = self.get("check-status")
        return str(answer.get("status")), [str(error) for error in answer.get("errors", [])]

    def begin(self, config: object) -> None:
        """Begin an experiment with a configuration, in a manager that has none yet."""
        self._call("POST", "experiment", config)

    def stop(self) -> None:
        """Stop the experiment, and with it the manager."""
        self._call("DELETE", "experiment")

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
            with opener.open(request, timeout=self._timeout) as answer:
                text = answer.read()
            return json.loads(text) if text else None
        except (OSError, ValueError) as error:  # URLError is an OSError
            raise ManagerError(f"{method} {request.full_url} failed: {error}") from None


def read_parameters(packed: object) -> tuple[int | None, object]:
    """Return the parameter id and the parameters in NNI's record of them, a text of JSON. Raises ValueError."""
    record = json.loads(packed) if isinstance(packed, str) and packed else packed
    record = record if isinstance(record, dict) else {}
    return to_id(record.get("parameter_id")), record.get("parameters")


def to_id(value: Any) -> int | None:
    """Return a parameter id, which the database keeps as a text; None for a trial that was added by hand."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
