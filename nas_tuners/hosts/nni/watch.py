"""Follow an NNI experiment from outside until it ends."""

from __future__ import annotations

import time

from nas_tuners.hosts.nni.experiments import folder_of, list_experiments
from nas_tuners.hosts.nni.failures import describe_experiment_failures, find_tuner_failure
from nas_tuners.hosts.nni.manager import Manager, ManagerError
from nas_tuners.runs.journal import JOURNAL
from nas_tuners.runs.run import Run, load
from nas_tuners.show.text import describe_best, expected_results
from search_spaces.progress import progress_line

_GOES_ON = ("INITIALIZED", "RUNNING", "NO_MORE_TRIAL", "TUNER_NO_MORE_TRIAL")


def watch_experiment(experiment: str, interval: float = 1.0) -> str:
    """Print a line for each change and each failure until an experiment, which has to exist, has ended.

    A tuner that failed ends it too, though NNI goes on to call it running. Returns: its last status; ERROR then.
    """
    folder = folder_of(experiment)
    journal = folder / "checkpoint" / JOURNAL  # not there yet when the experiment has just begun
    entry = list_experiments()[experiment]
    manager = Manager(f"http://localhost:{entry.get('port')}")
    started = float(entry.get("startTime") or time.time() * 1000) / 1000
    limit, size, failed = _max_trials(manager), 0, dict[int, str]()
    while True:
        try:
            status, errors = manager.status()
        except ManagerError:
            status, errors = "STOPPED", []
        if journal.exists() and journal.stat().st_size != size:
            size = journal.stat().st_size
            run, _ = load(journal)
            done, seconds = run.search.counts.ended, time.time() - started
            total = expected_results(run, limit)
            print(progress_line(done, total, "trials", seconds, done, describe_best(run)), flush=True)
            failed = _print_new_failures(run, failed)
        stalls = status != "INITIALIZED" and find_tuner_failure(folder / "log" / "dispatcher.log")
        if status not in _GOES_ON or stalls:
            why = describe_experiment_failures(folder, [*failed.values()])
            print(*(f"error: {error}" for error in errors), *why, sep="\n", flush=True)
            return "ERROR" if status in _GOES_ON else status
        time.sleep(interval)  # NNI offers no event to wait for


def _print_new_failures(run: Run, known: dict[int, str]) -> dict[int, str]:
    """Print the trials that failed since. Returns: all that failed, by uid."""
    failed = {uid: str(trial.reason) for uid, trial in run.search.trials.items() if trial.state == "failed"}
    for uid in sorted(failed.keys() - known.keys()):
        print(f"failed: uid {uid}: {failed[uid]}", flush=True)
    return failed


def _max_trials(manager: Manager) -> int | None:
    try:
        limit = manager.get("experiment").get("params", {}).get("maxTrialNumber")
    except (ManagerError, AttributeError):
        return None
    return int(limit) if isinstance(limit, (int, float)) else None
