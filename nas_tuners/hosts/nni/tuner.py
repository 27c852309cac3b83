"""Run any search as an NNI 3.0 tuner. The only tuner-side file that speaks NNI; it hides what NNI gets wrong.

Differs from a plain ``nni.tuner.Tuner``: results are paired by a uid that travels inside the parameters, because NNI
hands parameters to whichever trial asks first; the journal, not NNI's database, is the truth; two threads may call at
once; an experiment ends by itself when its space is exhausted, and with an error when the tuner cannot go on.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import nni
from nni.runtime.tuner_command_channel import CommandType, TunerCommandChannel
from nni.tuner import Tuner

from nas_tuners.hosts.nni.handouts import Handouts
from nas_tuners.hosts.nni.manager import Manager, ManagerError
from nas_tuners.hosts.nni.results import Results
from nas_tuners.runs.importing import uid_in
from nas_tuners.runs.journal import JOURNAL, JournalError, has_begun
from nas_tuners.runs.run import Run
from nas_tuners.search.arguments import check_made
from nas_tuners.search.base import Search
from nas_tuners.search.records import Proposal
from search_spaces import Space, SpaceError
from search_spaces.checks import one_of, whole
from search_spaces.errors import ConstraintError, CostError, PhaseError

_log = logging.getLogger("nas_tuners")
_EXPLAINED = (JournalError, SpaceError, CostError, ConstraintError, PhaseError)  # their text says all


def journal_path() -> Path | None:
    """Return where the experiment that this process belongs to has its journal; None outside of NNI."""
    folder = os.environ.get("NNI_CHECKPOINT_DIRECTORY")
    return Path(folder) / JOURNAL if folder else None


class SearchTuner(Tuner):  # type: ignore[misc]
    """Run a :class:`~nas_tuners.search.Search` under NNI. Derive from it to give a search of your own a name.

    Args:
        search: any search that has no space yet.
        optimize_mode: ``maximize`` or ``minimize`` the metric, or its ``score_key`` where it is a dict.
        on_failure: what to do after a trial without a usable result: ``worst`` gives it the worst score; ``retry``
            tries the same architecture again, up to ``retries`` times, then ``worst``; ``skip`` learns nothing from it.
        retries: how often an architecture may be tried again.
        fixed: by key, the option that every architecture has; see :meth:`search_spaces.Space.fix`.

    Raises:
        ValueError: an argument is not one of those; all problems are named.
    """

    def __init__(
        self,
        search: Search,
        optimize_mode: str = "maximize",
        on_failure: str = "worst",
        retries: int = 2,
        fixed: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_made(search)
        problems = one_of("optimize_mode", optimize_mode, ("maximize", "minimize"))
        problems += one_of("on_failure", on_failure, ("worst", "retry", "skip")) + whole("retries", retries, 0)
        if problems:
            raise ValueError("; ".join(problems))
        self._search, self._optimize_mode = search, optimize_mode
        self._fixed = fixed or {}
        self._on_failure, self._retries = on_failure, retries if on_failure == "retry" else 0
        self._lock = threading.RLock()
        self.header: dict[str, Any] = {}  # what a host that is not NNI adds to that of the journal
        self._results: Results | None = None
        self._handouts = Handouts()
        self._no_more = False
        self._ended_at = -1  # number of trials that had ended when the manager was last told to end
        SearchTuner._latest = weakref.ref(self)

    _latest: ClassVar[weakref.ref[SearchTuner] | None] = None

    @classmethod
    def latest(cls) -> SearchTuner | None:
        """Return the tuner that was made last in this process, which is an experiment's only one; None without one."""
        return None if cls._latest is None else cls._latest()

    @property
    def stops_early(self) -> bool:
        """Return whether its search stops trials by their intermediate results."""
        return self._search.stopping is not None

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Allow one call at a time; end the experiment visibly after an unexpected error, where NNI would stall."""
        with self._lock:
            try:
                yield
            except nni.NoMoreTrialError:
                raise
            except Exception as error:
                self._give_up(error)
                raise

    @property
    def run(self) -> Run:
        """Return the search with its journal. Raises RuntimeError if NNI has not given a search space yet."""
        return self.results.run

    @property
    def results(self) -> Results:
        """Return what takes results in. Raises RuntimeError if NNI has not given a search space yet."""
        if self._results is None:
            raise RuntimeError("the tuner has no search space yet.")
        return self._results

    def update_search_space(self, search_space: Any) -> None:
        """Take the space: start or resume at first, later go on in the new space with all trials that fit it."""
        with self._guard():
            if self._results is None:
                run = self._open(Space.from_json(search_space).fix(self._fixed))
                self._results = Results(run, self._handouts, self._retries, self._on_failure != "skip")
                return
            try:
                space = Space.from_json(search_space).fix(self._fixed)
                if space.to_json() == self.run.space.to_json():  # in another order, perhaps: NNI keeps none
                    return
                self.run.change_space(space)
            except (SpaceError, CostError, ConstraintError, PhaseError) as error:
                self.results.note(f"the search goes on in the old space: {error}")
                return
            _log.warning(self.run.changes[-1])

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        """Return choices for one trial, with ``_uid`` and ``_run``, and with ``_phase`` if the search has phases.

        Raises:
            nni.NoMoreTrialError: the search is finished; the experiment ends when the last trial has.
        """
        with self._guard():
            self.results.settle_lost()
            proposal = self._next()
            if proposal is None:
                self._no_more = True
                self._end_if_idle()
                raise nni.NoMoreTrialError(f"{self._why_finished()}.")
            self._handouts.give(parameter_id, proposal.uid)
            return {**proposal.parameters, "_uid": proposal.uid, "_run": self.run.id}

    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        """Take in a result. Only here are NNI's ``parameters`` those that the trial got."""
        with self._guard():
            uid = uid_in(value, parameters)
            if uid is None:
                uid = self._handouts.uid_of(parameter_id)
            self.results.receive(uid, value, kwargs.get("trial_job_id"))

    def assess(self, job: str, history: Sequence[Any]) -> bool:
        """Take in the intermediate results of a trial. Returns: whether it should go on."""
        with self._guard():
            return self.results.assess(job, history)

    def trial_end(self, parameter_id: int | None, success: bool, **kwargs: Any) -> None:
        """Count the end of a trial; NNI may name the wrong one, before or after its result."""
        with self._guard():
            if parameter_id is None:
                _log.info("a trial that was added by hand has ended; it is not part of this search.")
                return
            self._handouts.ended += 1
            if not success:
                self.results.settle_ended()
            self._end_if_idle()

    def import_data(self, data: Any) -> None:
        """Take in results that NNI kept, of which only lost ones count, or that a user gives it from elsewhere."""
        with self._guard():
            self.results.take_rows(data)

    def load_checkpoint(self) -> None:
        """Do nothing: the journal is read as soon as the space is known."""

    def save_checkpoint(self) -> None:
        """Do nothing: the journal is always up to date."""

    def _on_exit(self) -> None:
        with self._lock:
            if self._results is not None:
                try:
                    if not self._retries:  # else a resume tries them again
                        self._results.settle_lost()
                except JournalError as error:
                    _log.error("%s", error)
                self.run.close()

    _on_error = _on_exit

    def _open(self, space: Space) -> Run:
        """Start the run, or go on with the one whose journal is in the experiment's folder."""
        path = journal_path()
        if path is None or not has_begun(path):
            more = {"experiment": path.parent.parent.name if path else None, "tuner": type(self).__name__}
            more |= {"checkpoint": os.path.realpath(path.parent)} if path else {}  # a copy elsewhere is not this run
            return Run.start(self._search, space, self._optimize_mode, path, **{**more, **self.header})
        run = Run.resume(self._search, path)
        if run.optimize_mode != self._optimize_mode:
            run.close()
            raise JournalError(f"{path} has optimize_mode {run.optimize_mode}, wanted {self._optimize_mode}.")
        if run.space.to_json() != space.to_json():
            run.close()
            raise JournalError(
                f"{path} is of another search space: its digest is {run.space.digest[:12]}, "
                f"the experiment's {space.digest[:12]}. Start a new experiment for a new space."
            )
        self._handouts.take_over(proposal.uid for proposal in run.search.pending)
        return run

    def _next(self) -> Proposal | None:
        trials, handouts = self.run.search.trials, self._handouts
        handouts.reclaim(lambda uid: trials[uid].state == "pending")
        while handouts.again:
            trial = trials[handouts.again.popleft()]
            if trial.state == "pending":  # its result may have come after all
                self.run.note("handed out again", uid=trial.uid)
                return trial.proposal
        proposals = self.run.ask()
        return proposals[0] if proposals else None

    def _why_finished(self) -> str:
        exhausted = self.run.search.exhausted
        return "every architecture that may be proposed has been" if exhausted else "the search's budget is spent"

    def _end_if_idle(self) -> None:
        """End the experiment as DONE if the search is finished and no trial runs: by itself NNI would stay idle."""
        manager, handouts = Manager.of_tuner(), self._handouts
        if not self._no_more or not handouts.is_idle or handouts.ended == self._ended_at or manager is None:
            return
        self._ended_at = handouts.ended
        self.results.retries = 0  # NNI will not ask again
        self.results.settle_lost()
        try:
            jobs = len(manager.trial_jobs())
            manager.end_at(max(jobs, 1))
            _log.info("%s, after %d trials: the experiment ends.", self._why_finished(), jobs)
        except ManagerError as error:
            _log.error("%s, but the experiment cannot be ended: %s. Use nnictl stop.", self._why_finished(), error)

    def _give_up(self, error: Exception) -> None:
        """Tell the manager to show ERROR; by itself it would show RUNNING for ever."""
        text = f"{type(self).__name__} cannot go on: {error}"
        _log.error(text, exc_info=not isinstance(error, _EXPLAINED))
        url = os.environ.get("NNI_TUNER_COMMAND_CHANNEL")
        if url:
            try:
                channel = TunerCommandChannel(url)
                channel.connect()
                channel._send(CommandType.Error, text)
                channel.disconnect()
            except Exception:
                _log.exception("the manager cannot be reached. Use nnictl stop.")
