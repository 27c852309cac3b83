"""Give what the trials of an NNI experiment report to the architectures that they trained, whatever NNI says."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nas_tuners.hosts.nni.handouts import Handouts
from nas_tuners.hosts.nni.manager import CANCELED, ENDED, Job, Manager, ManagerError, Metrics, find_uids
from nas_tuners.runs.importing import import_results, make_result, origin_in, read_rows, uid_in
from nas_tuners.runs.run import Run
from nas_tuners.search.records import MetricError, SearchError, as_metrics, failure_in

_log = logging.getLogger("nas_tuners")


class Results:
    """The way of results into a run: failures by the user's policy, early stops, what NNI has kept over a resume.

    Args:
        run: to tell.
        handouts: the proposals that NNI was given.
        retries: how often an architecture may be tried again.
        learn_failures: whether the search learns the worst score from a failure.
    """

    def __init__(self, run: Run, handouts: Handouts, retries: int, learn_failures: bool) -> None:
        self.run, self.retries = run, retries
        self.handouts, self._learn_failures = handouts, learn_failures
        self._tries: dict[int, int] = {}
        self._uids: dict[str, int | None] = {}  # by job, what it runs, of those that an assessor asked about
        self._settled = {job.id for job in _jobs() if job.status in ENDED}  # those of before this process

    def receive(self, uid: int | None, value: object, job: str | None) -> None:
        """Take in what NNI delivers as a final metric.

        With ``includeIntermediateResults`` that is the last intermediate one for a trial that an assessor has stopped.
        """
        bare = uid_in(value) is None and os.environ.get("NNI_INCLUDE_INTERMEDIATE_RESULTS") == "true"
        metrics = _metrics_of(job) if bare and job else None
        if metrics is None or (metrics.final and metrics.final_value == value):
            self.take(uid, value, job)
        elif not metrics.final:
            self.take(uid, stopped_report(value, metrics.intermediates), job)
        else:
            self.note(f"uid {uid} was to be stopped early, but had ended: its own result counts.", job=job)

    def assess(self, job: str, history: Sequence[Any]) -> bool:
        """Take in the intermediate results of a job, the last of them new. Returns: whether it should go on."""
        metrics = None if job in self._uids else _metrics_of(job)  # only these say what the trial really runs
        if metrics is not None and metrics.parameter_id is not None:
            self._uids[job] = self.handouts.uid_of(metrics.parameter_id)
        uid = self._uids.get(job)
        return uid is None or self.hear(uid, history[-1], len(history), job)

    def hear(self, uid: int, value: object, resource: int, job: str | None = None) -> bool:
        """Take in an intermediate result of a trial. Returns: whether it should go on."""
        if isinstance(value, Mapping):
            value = {self.run.search.score_key: value.get("default"), **value}
        try:
            goes_on = self.run.report(uid, value, resource, job)
        except MetricError as error:
            self.note(f"an intermediate result of uid {uid} does not count: {error}", job=job)
            return True
        except SearchError:
            _log.exception("the search goes on without having learnt from uid %d.", uid)
            goes_on = False
        if not goes_on:
            self.handouts.take_back(uid)
        return goes_on

    def take(self, uid: int | None, value: object, job: str | None) -> None:
        """Take in the result of a trial: a metric, a failure, or an early stop, as the trial side reports them."""
        if uid is None or uid not in self.run.search.trials:
            self.note(f"a result for uid {uid}, which was never proposed here: ignored.", job=job)
            return
        metrics, resource, reason = _read_report(value, self.run.search.score_key)
        if reason is not None:
            self.fail(uid, reason)
            return
        self.handouts.take_back(uid)
        try:
            stopped = resource is not None and self.run.search.trials[uid].state == "stopped"  # by us, or told twice
            if not stopped and not self.run.tell(uid, metrics, job, resource):
                self.note(f"a second result for uid {uid}: not counted.", job=job)
        except SearchError:
            _log.exception("the search goes on without having learnt from uid %d.", uid)

    def fail(self, uid: int, reason: str) -> None:
        """Take in a failure: try again, or tell the search."""
        self.handouts.take_back(uid)
        if self.run.search.trials[uid].state != "pending":
            self.note(f"uid {uid} has its result already, and now failed: {reason}")
        elif self._tries.get(uid, 0) < self.retries:
            self._tries[uid] = self._tries.get(uid, 0) + 1
            self.handouts.again.append(uid)
            self.note(f"uid {uid} failed and is tried again: {reason}")
        else:
            _log.warning("uid %d failed: %s", uid, reason)
            try:
                self.run.fail(uid, reason, self._learn_failures)
            except SearchError:
                _log.exception("the search goes on without having learnt from uid %d.", uid)

    def settle_lost(self) -> None:
        """Fail what was given to trials that have all ended without a word."""
        for uid in self.handouts.drop_lost():
            self.fail(uid, "its trial ended without a result")

    def settle_ended(self) -> None:
        """Settle trials that were stopped or failed and said nothing of it.

        NNI says that one has ended, often of the wrong one. Intermediate results name what their trial really ran.
        """
        for job in _jobs():
            if job.status in ENDED and job.status != "SUCCEEDED" and job.id not in self._settled:
                self._settled.add(job.id)
                self._settle(job, _metrics_of(job.id))

    def _settle(self, job: Job, metrics: Metrics | None) -> None:
        if metrics is None or metrics.final or metrics.parameter_id is None:
            return  # its result is on the way, or nobody knows what it ran
        uid = self.handouts.uid_of(metrics.parameter_id)
        if uid is None or self.run.search.trials[uid].state != "pending":
            return
        if job.status in CANCELED:
            self.take(uid, stopped_report(metrics.last, metrics.intermediates), job.id)
        else:
            self.fail(uid, "its trial ended without a result")

    def take_rows(self, rows: Iterable[Any]) -> None:
        """Take in rows that NNI kept over a resume, where most are paired wrongly, or that a user imports."""
        rows = list(rows)
        own = [row for row in rows if self._is_own(row)]
        for row in own:
            self._take_own(row.get("parameter"), row.get("value"), row.get("trialJobId"))
        if foreign := [row for row in rows if not self._is_own(row)]:
            done = import_results(self.run, read_rows(foreign))
            if done.told or done.refused:
                self.note(f"imported data: {done}")

    def _is_own(self, row: Any) -> bool:
        if not isinstance(row, Mapping):
            return False
        metric_first = row.get("value"), row.get("parameter")
        return uid_in(*metric_first) is not None and origin_in(*metric_first) == self.run.id

    def _take_own(self, parameters: object, value: object, job: str | None) -> None:
        trials = self.run.search.trials
        if job is not None and any(trial.job == job for trial in trials.values()):
            return  # the journal has it from the trial itself
        uid = uid_in(value)
        if uid is None:
            uid = uid_in(parameters) if job is None else _find_uid(job, parameters)
        if uid is not None and uid in trials and trials[uid].state == "pending":
            self.take(uid, value, job)

    def note(self, text: str, **more: object) -> None:
        """Log a remark, and write it into the journal."""
        _log.warning(text)
        self.run.note(text, **more)


def settle_kept(run: Run, jobs: Iterable[Job]) -> int:
    """Tell a run the results that NNI has kept and that its tuner never received. Returns: how many.

    Failures are left to the next tuner: its ``on_failure`` says what becomes of them.

    Args:
        run: that of the experiment.
        jobs: all trial jobs of the experiment, in the order of their start.
    """
    trials, jobs, told = run.search.trials, list(jobs), 0
    known, uids = {trial.job for trial in trials.values()}, find_uids(jobs)
    for job in jobs:
        named = uid_in(job.final_value)
        foreign = named is not None and origin_in(job.final_value) != run.id
        uid = uids.get(job.id) if named is None else named
        trial = None if uid is None else trials.get(uid)
        if foreign or job.final_id is None or job.id in known or trial is None or trial.state != "pending":
            continue
        metrics, resource, reason = _read_report(job.final_value, run.search.score_key)
        if reason is None:
            run.tell(trial.uid, metrics, job.id, resource)
            told += 1
    return told


def _read_report(value: object, score_key: str) -> tuple[Any, int | None, str | None]:
    """Return what a trial reported: its metrics, the resource of one that was stopped early, and why it failed."""
    result = make_result(None, value)
    metrics = result.metrics
    if result.resource is not None:  # intermediate results are bare numbers
        metrics = {score_key: metrics.get("default"), **metrics}
    try:
        reason = result.reason or failure_in(as_metrics(metrics, score_key)[score_key])
    except MetricError as error:
        reason = str(error)
    return metrics, result.resource, reason


def stopped_report(value: object, resource: int) -> dict[str, object]:
    """Return an early stop as the trial side would report it: its last value, and how many there were."""
    return {**(value if isinstance(value, Mapping) else {"default": value}), "_stopped": resource}


def _find_uid(job: str, parameters: object) -> int | None:
    """Return the uid of what a job really ran, by the parameter id of its metric; None where that says nothing."""
    jobs = _jobs()
    return find_uids(jobs).get(job) if jobs else uid_in(parameters)


def _jobs() -> list[Job]:
    manager = Manager.of_tuner()
    try:
        return manager.trial_jobs() if manager else []
    except ManagerError as error:
        _log.warning("cannot tell what trials there are: %s", error)
        return []


def _metrics_of(job: str) -> Metrics | None:
    manager = Manager.of_tuner()
    try:
        return manager.metrics(job) if manager else None
    except ManagerError as error:
        _log.warning("cannot tell what trial %s has reported: %s", job, error)
        return None
