"""Follow an NNI experiment from outside until it ends."""

from __future__ import annotations

import time

from nas_tuners.hosts.nni.experiments import folder_of, list_experiments
from nas_tuners.hosts.nni.manager import Manager, ManagerError
from nas_tuners.runs.journal import JOURNAL
from nas_tuners.runs.run import load
from nas_tuners.show.text import describe_best, expected_results
from search_spaces.progress import progress_line

_GOES_ON = ("INITIALIZED", "RUNNING", "NO_MORE_TRIAL", "TUNER_NO_MORE_TRIAL")


def watch_experiment(experiment: str, interval: float = 1.0) -> str:
    """Print a line for each change until an experiment, which has to exist, has ended. Returns: its last status."""
    journal = folder_of(experiment) / "checkpoint" / JOURNAL  # not there yet when the experiment has just begun
    entry = list_experiments()[experiment]
    manager = Manager(f"http://localhost:{entry.get('port')}")
    started = float(entry.get("startTime") or time.time() * 1000) / 1000
    limit, size = _max_trials(manager), 0
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
        if status not in _GOES_ON:
            for error in errors:
                print(f"error: {error}", flush=True)
            return status
        time.sleep(interval)  # NNI offers no event to wait for


def _max_trials(manager: Manager) -> int | None:
    try:
        limit = manager.get("experiment").get("params", {}).get("maxTrialNumber")
    except (ManagerError, AttributeError):
        return None
    return int(limit) if isinstance(limit, (int, float)) else None
