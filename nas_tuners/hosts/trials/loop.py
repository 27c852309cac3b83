"""Ask, run trials and tell, until an experiment has its results: what NNI's manager and its local platform do."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from nas_tuners.hosts.nni.results import Results, stopped_report
from nas_tuners.hosts.trials.plan import TrialPlan
from nas_tuners.hosts.trials.pool import Event, Pool
from nas_tuners.hosts.trials.process import Ended, Restarted, TrialError
from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.loop import OnProgress
from nas_tuners.search.records import Proposal

OnIntermediate = Callable[[int, Any, int], bool]
"""Takes uid, value and number of a result on the way; False stops the trial, whose last result is then kept."""


class TrialPool(Protocol):
    """Run trials side by side; as :class:`~nas_tuners.hosts.trials.pool.Pool` describes it. It is a context."""

    @property
    def running(self) -> int: ...
    @property
    def has_room(self) -> bool: ...
    def take_over(self, pending: Collection[int]) -> Collection[int]: ...
    def start(self, uid: int, parameters: Mapping[str, Any]) -> None: ...
    def has(self, uid: int) -> bool: ...
    def is_stopped(self, uid: int) -> bool: ...
    def stop(self, uid: int, reason: str) -> None: ...
    def wait(self, timeout: float = ...) -> list[Event]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


MakePool = Callable[[TrialPlan, Path, str], TrialPool]
"""Takes the plan, the folder of the run, and its id."""


def run_trials(
    results: Results,
    plan: TrialPlan,
    folder: Path,
    on_progress: OnProgress | None = None,
    on_intermediate: OnIntermediate | None = None,
    make_pool: MakePool = Pool,
) -> None:
    """Run trials until there are enough results, the search is finished, or the experiment's time is over.

    Trials that were pending when a run was killed come first. One at a time, a run that was killed at any event and
    resumed equals the unbroken one. What is under way at the end of the time stays pending.

    Args:
        results: of a tuner whose run was started or resumed.
        plan: what to run.
        folder: of the run; each trial gets ``trials/UID`` in it.
        on_progress: called with the run before the first and after every result.
        on_intermediate: called with each result on the way.
        make_pool: what runs the trials; processes of this machine, if nothing else is given.

    Raises:
        TrialError: a trial cannot be started, or there is no such command.
        JournalError: an event cannot be written; the run has ended, resume it from its journal.
        SearchError: the algorithm failed.
        KeyboardInterrupt: was pressed; resume the run from its journal.
    """
    report = on_progress or (lambda run: None)
    with make_pool(plan, folder, results.run.id) as pool:
        trials = _Trials(results, plan, pool, on_intermediate or (lambda *_: True))
        trials.take_over()
        report(results.run)
        try:
            while trials.fill():
                trials.take_in()
                report(results.run)
        except KeyboardInterrupt:
            with contextlib.suppress(JournalError, TrialError):  # it came while it was written: the disk counts
                trials.take_in(0)
            raise


class _Trials:
    """The trials of an experiment: which are under way, and what they have said."""

    def __init__(self, results: Results, plan: TrialPlan, pool: TrialPool, on_intermediate: OnIntermediate) -> None:
        self._results, self._run, self._pool = results, results.run, pool
        self._limit, self._on_intermediate = plan.trials, on_intermediate
        self._end = math.inf if plan.seconds is None else time.monotonic() + plan.seconds
        self._said: dict[int, list[Any]] = {}  # by uid, of those without a result: what came on the way
        self._known: dict[int, int] = {}  # by uid, of those taken over: how much of that the search has heard

    def take_over(self) -> None:
        """Go on with what is pending: with trials that are still under way, and with others later."""
        pending = [proposal.uid for proposal in self._run.search.pending]
        taken = self._pool.take_over(pending)
        self._said.update((uid, []) for uid in taken)
        self._known.update((uid, len(self._run.search.curves.get(uid, ()))) for uid in taken)
        self._results.handouts.again.extend(uid for uid in pending if uid not in taken)

    def fill(self) -> bool:
        """Start what there is room for. Returns: whether any trial is under way, and there is time left."""
        while self._pool.has_room and time.monotonic() < self._end and (proposal := self._next()):
            self._said[proposal.uid] = []
            self._pool.start(proposal.uid, {**proposal.parameters, "_uid": proposal.uid, "_run": self._run.id})
        return self._pool.running > 0 and time.monotonic() < self._end

    def _next(self) -> Proposal | None:
        """Return what to run next: what is to be tried again, then something new; None if that is enough."""
        again, trials = self._results.handouts.again, self._run.search.trials
        for late in [uid for uid in again if trials[uid].state != "pending"]:  # there was a result after all
            again.remove(late)
        left = math.inf if self._limit is None else self._limit - self._run.search.counts.ended - len(self._said)
        uid = next((uid for uid in again if not self._pool.has(uid)), None) if left > 0 else None
        if uid is not None:
            again.remove(uid)
            return trials[uid].proposal
        return next(iter(self._run.ask()), None) if left > len(again) else None

    def take_in(self, timeout: float = math.inf) -> None:
        """Wait for what happens next, and take it in."""
        for uid, event in self._pool.wait(min(timeout, self._end - time.monotonic())):
            if isinstance(event, Ended):
                self._settle(uid, event)
            elif isinstance(event, Restarted):
                self._known.pop(uid, None)
                if uid in self._said:
                    self._said[uid] = []
            elif event.final:
                self._finish(uid, event.value)
            elif uid in self._said:
                self._said[uid].append(event.value)
                known = event.sequence < self._known.get(uid, 0)
                if not known and not self._on_intermediate(uid, event.value, event.sequence):
                    self._pool.stop(uid, "stopped early")

    def _finish(self, uid: int, value: Any) -> None:
        """Take in a final result."""
        if self._pool.is_stopped(uid) and isinstance(value, Mapping) and "_failed" in value:
            return  # all that it can say is that it was interrupted
        self._said.pop(uid, None)
        self._results.take(uid, value, None)

    def _settle(self, uid: int, ended: Ended) -> None:
        """Settle a trial that has ended, if it had no final result."""
        said = self._said.pop(uid, None)
        if said is None:
            return
        if ended.not_found and not said:
            raise TrialError(f"trialCommand cannot be run: {ended.reason}\nlog: {ended.log}")
        if ended.stopped and said and not ended.broken:
            self._results.take(uid, stopped_report(said[-1], len(said)), None)
        else:
            self._results.fail(uid, ended.reason)
