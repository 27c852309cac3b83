"""Evaluate in several processes. If one is killed, only its own trial is lost.

Each worker is a pool of one process: a pool of many does not say which of its trials was killed, and ends them all.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from nas_tuners.runs.evaluation import Evaluate, NamedFunction, Outcome, evaluate_choices
from nas_tuners.search.records import Proposal
from search_spaces.resolve import reason_of

_DIED = "its worker process died: it was killed, ran out of memory, or crashed"


class WorkerError(RuntimeError):
    """A worker process cannot be started, or cannot import the function."""


class Workers:
    """Processes that evaluate. Use it as a context: they end with it, at once if there was an exception.

    ``evaluate`` is sent to the ``count`` processes by its name, so it has to stand at the top of a module. Raises
    WorkerError if a process cannot start, or cannot import it.
    """

    def __init__(self, evaluate: Evaluate, count: int) -> None:
        self._evaluate = evaluate
        self._context = multiprocessing.get_context("spawn")
        self._alive, self._ours = self._context.Pipe(duplex=False)  # readers see its end when this process ends
        self._free: list[ProcessPoolExecutor] = []
        self._dead = 0
        self._busy: dict[Future[Outcome], tuple[ProcessPoolExecutor, Proposal]] = {}
        try:
            self._free = self._start(count)
        except BaseException:
            self._end(at_once=True)
            raise

    @property
    def free(self) -> int:
        """Return how many processes have nothing to do."""
        return len(self._free)

    @property
    def busy(self) -> int:
        """Return how many processes evaluate."""
        return len(self._busy)

    def submit(self, proposal: Proposal) -> None:
        """Give a proposal to a free process."""
        worker = self._free.pop()
        self._busy[worker.submit(evaluate_choices, self._evaluate, proposal.parameters)] = worker, proposal

    def wait(self, timeout: float) -> list[tuple[Proposal, Outcome]]:
        """Return the results there are, as soon as there is one; none after ``timeout`` seconds."""
        done, _ = wait(self._busy, timeout, FIRST_COMPLETED)
        results = []
        for future in sorted(done, key=lambda f: self._busy[f][1].uid):
            worker, proposal = self._busy.pop(future)
            try:
                results.append((proposal, future.result()))
            except BrokenProcessPool:
                worker.shutdown()
                results.append((proposal, Outcome(reason=_DIED)))
                self._dead += 1
                continue
            except Exception as error:  # what it returned cannot be sent from one process to another
                results.append((proposal, Outcome(reason=reason_of(error))))
            self._free.append(worker)
        return results

    def replenish(self) -> None:
        """Start a new process for each that was killed. Raises WorkerError if they cannot be started."""
        dead, self._dead = self._dead, 0
        self._free += self._start(dead)

    def _start(self, count: int) -> list[ProcessPoolExecutor]:
        """Start processes, and wait until all of them have imported the function."""
        workers = [
            ProcessPoolExecutor(1, mp_context=self._context, initializer=_initialize, initargs=(self._alive,))
            for _ in range(count)
        ]
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until _initialize ignores it
        try:
            ready = [worker.submit(_prepare, self._evaluate) for worker in workers]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        try:
            for future in ready:
                future.result()
        except BrokenProcessPool:
            raise WorkerError(
                "a worker process died before its first trial: is the call in a script without "
                'if __name__ == "__main__", or does importing the function crash?'
            ) from None
        except Exception as error:
            raise WorkerError(f"a worker process cannot be given the function: {error}") from None
        return workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._end(at_once=kind is not None)

    def _end(self, at_once: bool) -> None:
        if at_once:
            self._ours.close()
        for worker in [*self._free, *(worker for worker, _ in self._busy.values())]:
            worker.shutdown(wait=True, cancel_futures=True)
        self._ours.close()
        self._alive.close()


def _initialize(alive: Connection) -> None:
    """Make this worker process end with the search, however that ends. Ctrl-C is left to the search."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def watch() -> None:
        alive.poll(None)  # nothing is ever sent: it returns when the other end is closed
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _prepare(evaluate: Evaluate) -> None:
    if isinstance(evaluate, NamedFunction):
        evaluate.find()
