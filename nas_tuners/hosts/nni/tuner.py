"""Any search as an NNI 3.0 tuner. The only tuner-side file that speaks NNI, and it hides what NNI gets wrong.

Differs from a plain ``nni.tuner.Tuner``: results are paired by a uid that travels inside the parameters, because NNI
hands parameters to whichever trial asks first; the journal, not NNI's database, is the truth; two threads may call at
once; an experiment ends by itself when its space is exhausted, and with an error when the tuner cannot go on.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nni
from nni.runtime.tuner_command_channel import CommandType, TunerCommandChannel
from nni.tuner import Tuner

from nas_tuners.hosts.nni.handouts import Handouts, uid_in
from nas_tuners.hosts.nni.manager import Manager, ManagerError
from nas_tuners.runs.journal import JournalError, begun
from nas_tuners.runs.run import Run
from nas_tuners.search.arguments import check_search
from nas_tuners.search.base import Search, SearchError
from nas_tuners.search.constraints import ConstraintError
from nas_tuners.search.records import MetricError, Proposal
from search_spaces import Space, SpaceError
from search_spaces.checks import is_int
from search_spaces.errors import CostError, PhaseError

_log = logging.getLogger("nas_tuners")
_SAID = (JournalError, SpaceError, CostError, ConstraintError, PhaseError)  # their text is all that there is to say


class SearchTuner(Tuner):  # type: ignore[misc]
    """Runs a :class:`~nas_tuners.search.Search` under NNI. Derive from it to give a search of your own a name.

    Args:
        search: any search that has no space yet.
        optimize_mode: ``maximize`` or ``minimize`` the metric, or its ``score_key`` where it is a dict.
        on_failure: what a trial that ends without a usable result means: ``worst``, the worst score; ``retry``, the
            same architecture again, up to ``retries`` times, then ``worst``; ``skip``, nothing to learn.
        retries: how often one architecture may be tried again.

    Raises:
        ValueError: an argument is not one of those.
    """

    def __init__(
        self, search: Search, optimize_mode: str = "maximize", on_failure: str = "worst", retries: int = 2
    ) -> None:
        super().__init__()
        check_search(search)
        if optimize_mode not in ("maximize", "minimize"):
            raise ValueError(f'optimize_mode is {optimize_mode!r}, wanted "maximize" or "minimize".')
        if on_failure not in ("worst", "retry", "skip"):
            raise ValueError(f'on_failure is {on_failure!r}, wanted "worst", "retry" or "skip".')
        if not is_int(retries) or retries < 0:
            raise ValueError(f"retries is {retries!r}, wanted a whole number from 0 up.")
        self._search, self._optimize_mode = search, optimize_mode
        self._retries = retries if on_failure == "retry" else 0
        self._learn_failures = on_failure != "skip"
        self._lock = threading.RLock()
        self._run: Run | None = None
        self._tries: dict[int, int] = {}
        self._handouts = Handouts()
        self._no_more = False
        self._ended_at = -1  # how many trials had ended when the manager was last told to end

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """One call at a time; an unexpected error ends the experiment visibly, where NNI would stall in silence."""
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
        """The search and its journal.

        Raises:
            RuntimeError: NNI has not given a search space yet.
        """
        if self._run is None:
            raise RuntimeError("the tuner has no search space yet.")
        return self._run

    def update_search_space(self, search_space: Any) -> None:
        """Take the space: at first start or resume, later move what still fits into the new one."""
        with self._guard():
            if self._run is None:
                self._open(Space.from_json(search_space))
                return
            try:
                space = Space.from_json(search_space)
                if space.digest == self._run.space.digest:
                    return
                dropped = self._run.change_space(space)
            except (SpaceError, CostError, ConstraintError, PhaseError) as error:
                self._note(f"the search goes on in the old space: {error}")
                return
            _log.warning("the search space has changed: %d of the trials so far do not fit the new one.", dropped)

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        """Return choices for one trial, with their ``_uid``, and their ``_phase`` if the search has phases.

        Raises:
            nni.NoMoreTrialError: the search is finished; the experiment ends when the last trial has.
        """
        with self._guard():
            self._settle_lost()
            proposal = self._next()
            if proposal is None:
                self._no_more = True
                self._end_if_idle()
                raise nni.NoMoreTrialError(f"{self._why_finished()}.")
            self._handouts.give(parameter_id, proposal.uid)
            return {**proposal.parameters, "_uid": proposal.uid}

    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        """Take in a result; what NNI calls ``parameters`` here is what the trial got, and nowhere else."""
        with self._guard():
            uid = uid_in(value)
            if uid is None:
                uid = uid_in(parameters)
            if uid is None:
                uid = self._handouts.uid_of(parameter_id)
            self._record(uid, value, kwargs.get("trial_job_id"))

    def trial_end(self, parameter_id: int | None, success: bool, **kwargs: Any) -> None:
        """Count an end. NNI does not say truly which trial it was, nor before or after its result."""
        with self._guard():
            if parameter_id is None:
                _log.info("a trial that was added by hand has ended; it is no part of this search.")
                return
            self._handouts.ended += 1
            self._end_if_idle()

    def import_data(self, data: Any) -> None:
        """Take in results that NNI kept. After a resume it pairs most of them wrongly: only the lost ones count."""
        with self._guard():
            for entry in data:
                if isinstance(entry, Mapping):
                    self._import(entry.get("parameter"), entry.get("value"), entry.get("trialJobId"))
                else:
                    self._note(f"imported data is {entry!r}, wanted an object with parameter and value: ignored.")

    def load_checkpoint(self) -> None:
        """Nothing to do: the journal is read as soon as the space is known."""

    def save_checkpoint(self) -> None:
        """Nothing to do: the journal is always up to date."""

    def _on_exit(self) -> None:
        with self._lock:
            if self._run is not None:
                try:
                    if not self._retries:  # else a resume tries them again
                        self._settle_lost()
                except JournalError as error:
                    _log.error("%s", error)
                self._run.close()

    def _on_error(self) -> None:
        self._on_exit()

    def _open(self, space: Space) -> None:
        path = _journal_path()
        if path is None or not begun(path):
            more = {"experiment": path.parent.parent.name if path else None, "tuner": type(self).__name__}
            self._run = Run.start(self._search, space, self._optimize_mode, path, **more)
            return
        run = Run.resume(self._search, path)
        if run.optimize_mode != self._optimize_mode:
            run.close()
            raise JournalError(f"{path} is of a search that is to {run.optimize_mode}, not {self._optimize_mode}.")
        if run.space.digest != space.digest:
            run.close()
            raise JournalError(
                f"{path} is of another search space: its digest is {run.space.digest[:12]}, "
                f"the experiment's {space.digest[:12]}. Start a new experiment for a new space."
            )
        self._run = run
        self._handouts.begin(proposal.uid for proposal in run.search.pending)

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

    def _record(self, uid: int | None, value: Any, job: str | None) -> None:
        if uid is None or uid not in self.run.search.trials:
            self._note(f"a result for uid {uid}, which was never proposed here: ignored.", job=job)
            return
        self._handouts.back(uid)
        reason = value.get("_failed") if isinstance(value, Mapping) else None
        if reason is not None:
            self._failed(uid, str(reason))
            return
        if isinstance(value, Mapping):
            value = {key: item for key, item in value.items() if not str(key).startswith("_")}
        try:
            if not self.run.tell(uid, value, job):
                self._note(f"a second result for uid {uid}: not counted.", job=job)
        except MetricError as error:
            self._failed(uid, str(error))
        except SearchError:
            _log.exception("the search goes on without having learnt from uid %d.", uid)

    def _failed(self, uid: int, reason: str) -> None:
        if self.run.search.trials[uid].state != "pending":
            self._note(f"uid {uid} has its result already, and now failed: {reason}")
        elif self._tries.get(uid, 0) < self._retries:
            self._tries[uid] = self._tries.get(uid, 0) + 1
            self._handouts.again.append(uid)
            self._note(f"uid {uid} failed and is tried again: {reason}")
        else:
            _log.warning("uid %d failed: %s", uid, reason)
            try:
                self.run.fail(uid, reason, self._learn_failures)
            except SearchError:
                _log.exception("the search goes on without having learnt from uid %d.", uid)

    def _settle_lost(self) -> None:
        for uid in self._handouts.lost():
            self._failed(uid, "its trial ended without a result")

    def _import(self, parameters: Any, value: Any, job: str | None) -> None:
        search = self.run.search
        uid = uid_in(value) if job is not None else None
        if uid is None:
            uid = uid_in(parameters)
        if job is not None and any(trial.job == job for trial in search.trials.values()):
            return  # the journal has it from the trial itself
        if uid is not None and uid in search.trials and (job is not None or self._is(uid, parameters)):
            if search.trials[uid].state == "pending":
                self._record(uid, value, job)
            return
        self._import_foreign(parameters, value)

    def _is(self, uid: int, parameters: Any) -> bool:
        return not self.run.space.problems(parameters) and (
            self.run.space.encode(parameters) == self.run.search.trials[uid].tokens
        )

    def _import_foreign(self, parameters: Any, value: Any) -> None:
        """A result that somebody gives to ``nnictl experiment import``."""
        problems = self.run.space.problems(parameters)
        if problems:
            self._note("imported data does not fit the search space and is ignored: " + "; ".join(problems))
        elif not self.run.search.feasible(tokens := self.run.space.encode(parameters)):
            self._note("imported data does not keep the constraints of this search and is ignored.")
        elif not self.run.search.known(tokens):
            self._record(self.run.suggest(tokens).uid, value, None)

    def _why_finished(self) -> str:
        search = self.run.search
        return (
            "every architecture that may be proposed has been" if search.exhausted else "the search's budget is spent"
        )

    def _end_if_idle(self) -> None:
        """NNI stays idle for ever after a NoMoreTrialError; lowering its number of trials makes it end as DONE."""
        manager, handouts = Manager.of_tuner(), self._handouts
        if not self._no_more or not handouts.idle or handouts.ended == self._ended_at or manager is None:
            return
        self._ended_at = handouts.ended
        self._retries = 0  # NNI will not ask again
        self._settle_lost()
        try:
            jobs = len(manager.trial_jobs())
            manager.end_at(max(jobs, 1))
            _log.info("%s, after %d trials: the experiment ends.", self._why_finished(), jobs)
        except ManagerError as error:
            why = self._why_finished()
            _log.error("%s, but the experiment cannot be ended: %s. Use nnictl stop.", why, error)

    def _give_up(self, error: Exception) -> None:
        """Tell the manager, which then shows ERROR; left alone it would show RUNNING for ever."""
        text = f"{type(self).__name__} cannot go on: {error}"
        _log.error(text, exc_info=not isinstance(error, _SAID))
        url = os.environ.get("NNI_TUNER_COMMAND_CHANNEL")
        if url:
            try:
                channel = TunerCommandChannel(url)
                channel.connect()
                channel._send(CommandType.Error, text)
                channel.disconnect()
            except Exception:
                _log.exception("the manager cannot be told. Use nnictl stop.")

    def _note(self, text: str, **more: Any) -> None:
        _log.warning(text)
        self.run.note(text, **more)


def _journal_path() -> Path | None:
    folder = os.environ.get("NNI_CHECKPOINT_DIRECTORY")
    return Path(folder) / "journal.jsonl" if folder else None
