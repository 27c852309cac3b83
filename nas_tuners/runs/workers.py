"""Evaluate in several processes. If one is killed or takes too long, only its own trial is lost.

Each worker has a process group of its own, so that it ends with all that its trial has started.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from types import TracebackType
from typing import Any, Self

from nas_tuners.runs.evaluation import Evaluate, NamedFunction, Outcome, evaluate_choices
from nas_tuners.search.records import Proposal
from search_spaces.resolve import reason_of

_DIED = "its worker process died: it was killed, ran out of memory, or crashed"
_MOST_STARTS = 5  # in a row that end in the death of the new process, before that is an error
_PATIENCE = 10.0  # seconds for a worker that is done to end by itself
_LOOK = 1.0  # seconds between two looks whether a process is still there, where no pipe would tell
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # of a terminal or a service manager: the search's to handle


class WorkerError(RuntimeError):
    """A worker process cannot be started, or cannot import the function."""


class Workers:
    """Processes that evaluate. Use it as a context: they end with it, at once if there was an exception.

    ``evaluate`` is sent to the ``count`` processes by its name, so it has to stand at the top of a module. A trial that
    takes longer than ``timeout`` seconds is ended. ``report`` takes the uid of a trial, an intermediate result and its
    number, and returns whether the trial should go on. Raises WorkerError if a process cannot start or import it.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        count: int,
        timeout: float | None = None,
        score_key: str = "default",
        report: Callable[[int, Any, int], bool] = lambda *_: True,
    ) -> None:
        self._score_key, self._report = score_key, report
        self._evaluate, self._count, self._timeout = evaluate, count, timeout
        self._context = multiprocessing.get_context("spawn")
        self._alive, self._ours = self._context.Pipe(duplex=False)  # readers see its end when this process ends
        self._workers: list[_Worker] = []
        self._unstarted: list[Proposal] = []  # given to a process that died before it took them
        self._failed_starts = 0
        try:
            self.replenish()
            while any(not worker.ready for worker in self._workers):
                self.wait(_LOOK)
                self.replenish()
        except BaseException:
            self._end(at_once=True)
            raise

    @property
    def free(self) -> int:
        """Return how many processes have nothing to do."""
        return sum(worker.ready and worker.proposal is None for worker in self._workers)

    @property
    def busy(self) -> int:
        """Return how many trials are under way."""
        return sum(worker.proposal is not None for worker in self._workers) + len(self._unstarted)

    def submit(self, proposal: Proposal) -> None:
        """Give a proposal to a free process."""
        next(worker for worker in self._workers if worker.ready and worker.proposal is None).take(proposal)

    def wait(self, timeout: float) -> list[tuple[Proposal, Outcome]]:
        """Return the results there are, as soon as something happens; none after ``timeout`` seconds.

        Raises WorkerError if a new process cannot import the function, or new ones die again and again.
        """
        ends = [worker.started + self._timeout for worker in self._workers if self._timeout and worker.started]
        until = min([timeout, _LOOK, *(end - time.monotonic() for end in ends)])
        connection.wait([at for worker in self._workers for at in worker.signs], max(until, 0.0))
        results = []
        for worker in sorted(self._workers, key=lambda worker: worker.proposal.uid if worker.proposal else -1):
            proposal, there = worker.proposal, worker.is_alive()  # in this order: its last words come before its end
            outcome = worker.listen(self._report)
            if outcome is None and proposal is not None and self._is_late(worker):
                outcome = Outcome(reason=f"it took longer than the limit of {self._timeout:g} s for a trial")
                there = False
            if proposal is not None and outcome is not None:
                results.append((proposal, outcome))
                worker.proposal = None
            if not there:
                results += self._bury(worker)
        return results

    def replenish(self) -> None:
        """Start a new process for each that was lost, and give the free ones what was not begun."""
        while len(self._workers) < self._count:
            self._workers.append(_Worker(self._context, self._evaluate, self._score_key, self._alive))
        while self._unstarted and self.free:
            self.submit(self._unstarted.pop(0))

    def _is_late(self, worker: _Worker) -> bool:
        return bool(self._timeout and worker.started and time.monotonic() >= worker.started + self._timeout)

    def _bury(self, worker: _Worker) -> list[tuple[Proposal, Outcome]]:
        """Let go of a process that ended, or has to. Returns: the trial that failed with it, if it had begun one."""
        worker.end(at_once=True)
        self._workers.remove(worker)
        proposal = worker.proposal
        self._failed_starts = 0 if worker.ready else self._failed_starts + 1
        if self._failed_starts and (worker.exitcode >= 0 or self._failed_starts >= _MOST_STARTS):
            raise WorkerError(
                "a worker process died before its first trial: is the call in a script without "
                'if __name__ == "__main__", or does importing the function crash?'
            )
        if proposal is not None and not worker.started:
            self._unstarted.append(proposal)
            return []
        return [] if proposal is None else [(proposal, Outcome(reason=_DIED))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._end(at_once=kind is not None)

    def _end(self, at_once: bool) -> None:
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.end(at_once)
        self._ours.close()
        self._alive.close()


class _Worker:
    """One process, as the search sees it."""

    def __init__(self, context: SpawnContext, evaluate: Evaluate, score_key: str, alive: Connection) -> None:
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, alive, os.getpid(), score_key))
        self.ready = False  # the function is imported
        self.proposal: Proposal | None = None
        self.started = 0.0  # when it took that up; 0 if it has not
        self._lost = False  # the pipe to it
        resource_tracker.ensure_running()  # would unblock the signals if it were started below
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the process handles them
        try:
            self._process.start()
        except OSError as error:
            raise WorkerError(f"a worker process cannot be started: {error.strerror}.") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            theirs.close()
        try:
            self._pipe.send(evaluate)
        except OSError:
            return  # it is dead already, as the next look will see
        except Exception as error:
            self.end(at_once=True)
            raise WorkerError(f"a worker process cannot be given the function: {reason_of(error)}") from None

    @property
    def signs(self) -> tuple[Connection, int]:
        """Return what becomes readable when it says something, or ends."""
        return self._pipe, self._process.sentinel

    @property
    def exitcode(self) -> int:
        """Return the exit code of a process that has ended, negative for a signal."""
        return self._process.exitcode or 0

    def is_alive(self) -> bool:
        """Return whether it can still say something."""
        return self._process.is_alive() and not self._lost

    def take(self, proposal: Proposal) -> None:
        """Send it a proposal to evaluate."""
        self.proposal, self.started = proposal, 0.0
        with contextlib.suppress(OSError):  # it is dead, as the next look will see
            self._pipe.send(proposal.parameters)

    def listen(self, report: Callable[[int, Any, int], bool]) -> Outcome | None:
        """Take in what it has said. Returns: the outcome of its trial. Raises WorkerError if it has no function."""
        try:
            while self._pipe.poll():
                said = self._pipe.recv()
                if isinstance(said, Outcome):
                    return said
                if isinstance(said, _Intermediate) and self.proposal is not None:
                    self._pipe.send(report(self.proposal.uid, said.metrics, said.number))
                    continue
                if isinstance(said, str):
                    raise WorkerError(f"a worker process cannot be given the function: {said}")
                if self.ready:
                    self.started = time.monotonic()
                self.ready = True
        except (OSError, EOFError):
            self._lost = True
        return None

    def dismiss(self) -> None:
        """Tell it that there is nothing more to do."""
        self._pipe.close()

    def end(self, at_once: bool) -> None:
        """Wait for its end, or end it; all that it has started ends, too."""
        self.dismiss()
        if not at_once:
            self._process.join(_PATIENCE)
        if self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # it may not have its group yet
        self._process.join()


@dataclass(frozen=True)
class _Intermediate:
    """An intermediate result that a worker reports, for which it waits to hear whether to go on."""

    metrics: Any
    number: int


def _serve(pipe: Connection, alive: Connection, parent: int, score_key: str) -> None:
    """Be a worker process: take the function, then evaluate what comes until the search hangs up."""
    _leave_signals_to_the_search()
    threading.Thread(target=_end_with, args=(alive, parent), daemon=True).start()
    os.register_at_fork(after_in_child=pipe.close)
    with contextlib.suppress(OSError, EOFError):  # the search is gone
        try:
            evaluate: Evaluate = pipe.recv()
            if isinstance(evaluate, NamedFunction):
                evaluate.find()
        except EOFError:
            return
        except BaseException as error:
            return pipe.send(reason_of(error))

        def ask(metrics: Any, number: int) -> bool:
            pipe.send(_Intermediate(metrics, number))
            return bool(pipe.recv())

        pipe.send(None)
        while True:
            choices = pipe.recv()
            pipe.send(None)
            pipe.send(evaluate_choices(evaluate, choices, score_key, ask))


def _leave_signals_to_the_search() -> None:
    """Let Ctrl-C and its like go by in this process, though not in those that its trials start."""
    os.setpgid(0, 0)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)  # unlike SIG_IGN, it does not stay over exec
    os.register_at_fork(after_in_child=lambda: [signal.signal(number, signal.SIG_DFL) for number in _SIGNALS])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _end_with(alive: Connection, parent: int) -> None:
    """End this process and all that it has started when the search ends, however that ends."""
    while not alive.poll(_LOOK):  # nothing is ever sent: it is readable once the other end is closed
        if os.getppid() != parent:  # a child of the search keeps the other end open
            break
    os.killpg(0, signal.SIGKILL)
