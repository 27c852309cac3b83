"""Run a search without NNI, in one process or a few."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial

from nas_tuners.runs.evaluation import Evaluate, NamedFunction, Outcome, evaluate_choices
from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import Run
from nas_tuners.runs.workers import Workers
from nas_tuners.search.records import Proposal
from search_spaces.checks import above, whole

_TICK = 1.0  # seconds between two calls of on_progress while nothing happens

OnProgress = Callable[[Run], None]


def run_search(
    run: Run,
    evaluate: Evaluate | str,
    trials: int,
    workers: int = 1,
    on_progress: OnProgress | None = None,
    trial_timeout: float | None = None,
) -> None:
    """Ask, evaluate and tell until the run has enough results or the search is finished.

    Trials that were pending when a run was killed come first. With one worker a run that was killed at any event and
    resumed equals the unbroken one. With more, results come in any order. One worker evaluates in this process, unless
    there is a limit of time; a process of workers that is killed is a failed trial, and replaced. Ctrl-C leaves at
    once: trials without a result stay pending.

    Args:
        run: started or resumed.
        evaluate: takes choices, returns a number or a dict with one under the search's ``score_key``. If it raises,
            the trial has failed with that reason. For other processes: ``"module:function"``.
        trials: results in total, failures and those from before a resume included.
        workers: processes.
        on_progress: called with the run before the first and after every result.
        trial_timeout: seconds after which a trial has failed, and its process is ended; None: it may take for ever.

    Raises:
        ValueError: ``trials`` or ``workers`` is not a whole number from 1 up, or ``trial_timeout`` no number above 0.
        EvaluateError: there is no such function, or its module cannot be imported.
        WorkerError: the processes cannot be started.
        JournalError: an event cannot be written; the run has ended, resume it from its journal.
        SearchError: the algorithm failed.
        KeyboardInterrupt: was pressed; resume the run from its journal.
    """
    problems = [*whole("trials", trials, 1), *whole("workers", workers, 1)]
    if problems := problems + ([] if trial_timeout is None else above("trial_timeout", trial_timeout, 0)):
        raise ValueError("; ".join(problems) + ".")
    if isinstance(evaluate, str):
        evaluate = NamedFunction(evaluate)
        evaluate.find()
    report = on_progress or (lambda _: None)
    report(run)
    if workers == 1 and trial_timeout is None:
        _run_here(run, evaluate, trials, report)
        return
    with Workers(evaluate, workers, trial_timeout, run.search.score_key, run.report) as pool:
        _run_in_workers(run, pool, trials, report)


def _run_here(run: Run, evaluate: Evaluate, trials: int, report: OnProgress) -> None:
    waiting = deque(run.search.pending)
    while proposal := _next_proposal(run, waiting, trials, running=0):
        on_intermediate = partial(run.report, proposal.uid)
        outcome = evaluate_choices(evaluate, proposal.parameters, run.search.score_key, on_intermediate)
        _record(run, proposal, outcome)
        report(run)


def _run_in_workers(run: Run, pool: Workers, trials: int, report: OnProgress) -> None:
    waiting = deque(run.search.pending)
    try:
        while True:
            while pool.free and (proposal := _next_proposal(run, waiting, trials, pool.busy)):
                pool.submit(proposal)
            if pool.free and not pool.busy:  # none is free while all of them are replaced
                return
            for proposal, outcome in pool.wait(_TICK):
                _record(run, proposal, outcome)
            report(run)
            pool.replenish()
    except KeyboardInterrupt:
        with contextlib.suppress(JournalError):  # Ctrl-C came while it was written: what is on the disk counts
            for proposal, outcome in pool.wait(0):
                _record(run, proposal, outcome)
        raise


def _next_proposal(run: Run, waiting: deque[Proposal], trials: int, running: int) -> Proposal | None:
    """Return what to evaluate next; None if there is nothing more, or enough is running."""
    counts = run.search.counts
    if counts.ended + running >= trials:
        return None
    return waiting.popleft() if waiting else next(iter(run.ask()), None)


def _record(run: Run, proposal: Proposal, outcome: Outcome) -> None:
    if outcome.reason is not None:
        run.fail(proposal.uid, outcome.reason)
    elif outcome.metrics is not None:
        run.tell(proposal.uid, outcome.metrics)
