"""The same searches without NNI, in one process or a few: for supernets, tables, and whatever else is quick."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable

from nas_tuners.runs.evaluation import Evaluate, Imported, Outcome, evaluated
from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import Run
from nas_tuners.runs.workers import Workers
from nas_tuners.search.records import MetricError, Proposal
from search_spaces.checks import is_int

_TICK = 1.0  # seconds between two calls of on_progress while nothing happens

OnProgress = Callable[[Run], None]


def run_search(
    run: Run, evaluate: Evaluate | str, trials: int, workers: int = 1, on_progress: OnProgress | None = None
) -> None:
    """Ask, evaluate and tell, until there are so many results or the search is finished.

    What is pending from before a kill comes first. With one worker everything happens in this process, and a run that
    was killed at any event and resumed equals the unbroken one. With more, results come in any order, and a worker
    that is killed is a failed trial. Ctrl-C leaves at once: what has a result is told, the rest stays pending.

    Args:
        run: started or resumed.
        evaluate: takes choices, returns a number or a dict with one under the search's ``score_key``. What it raises
            is a failed trial with that reason. For several workers: ``"module:function"``.
        trials: results in total, told and failed, those of before a resume too.
        workers: processes.
        on_progress: called with the run before the first and after every result.

    Raises:
        ValueError: ``trials`` or ``workers`` is no whole number from 1 up.
        EvaluateError: there is no such function, or its module cannot be imported.
        WorkerError: the processes cannot be started.
        JournalError: an event cannot be written; the run is at its end, resume it.
        SearchError: the algorithm failed.
        KeyboardInterrupt: was pressed; resume the run from its journal.
    """
    for name, value in (("trials", trials), ("workers", workers)):
        if not is_int(value) or value < 1:
            raise ValueError(f"{name} is {value!r}, wanted a whole number from 1 up.")
    if isinstance(evaluate, str):
        evaluate = Imported(evaluate)
        evaluate.find()
    report = on_progress or (lambda _: None)
    report(run)
    if workers == 1:
        _alone(run, evaluate, trials, report)
    else:
        _together(run, evaluate, trials, workers, report)


def _alone(run: Run, evaluate: Evaluate, trials: int, report: OnProgress) -> None:
    waiting = deque(run.search.pending)
    while proposal := _next(run, waiting, trials, running=0):
        _settle(run, proposal, evaluated(evaluate, proposal.parameters))
        report(run)


def _together(run: Run, evaluate: Evaluate, trials: int, workers: int, report: OnProgress) -> None:
    waiting = deque(run.search.pending)
    with Workers(evaluate, workers) as pool:
        try:
            while True:
                while pool.free and (proposal := _next(run, waiting, trials, pool.busy)):
                    pool.submit(proposal)
                if not pool.busy:
                    return
                for proposal, outcome in pool.wait(_TICK):
                    _settle(run, proposal, outcome)
                report(run)
                pool.replenish()
        except KeyboardInterrupt:
            with contextlib.suppress(JournalError):  # it was being written to: what is on the disk counts
                for proposal, outcome in pool.wait(0):
                    _settle(run, proposal, outcome)
            raise


def _next(run: Run, waiting: deque[Proposal], trials: int, running: int) -> Proposal | None:
    """What to evaluate now; None when there is nothing more, or enough is running."""
    counts = run.search.counts
    if counts.told + counts.failed + running >= trials:
        return None
    return waiting.popleft() if waiting else next(iter(run.ask()), None)


def _settle(run: Run, proposal: Proposal, outcome: Outcome) -> None:
    if outcome.reason is not None:
        run.fail(proposal.uid, outcome.reason)
        return
    try:
        run.tell(proposal.uid, outcome.metrics)
    except MetricError as error:
        run.fail(proposal.uid, str(error))
