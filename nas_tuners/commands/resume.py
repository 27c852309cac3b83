"""``nas resume``: bring back a run of ``nas search`` or ``nas rank``, or an NNI experiment."""

from __future__ import annotations

import warnings
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from nas_tuners.commands import CommandError, rank, search
from nas_tuners.hosts.local import Job
from nas_tuners.hosts.nni.experiments import experiment_of, journal_of
from nas_tuners.hosts.nni.resume import resume_experiment
from nas_tuners.runs.journal import Event, read

_RESUMES = {"search": search.resume, "rank": rank.resume}


def execute(options: Namespace) -> int:
    """Resume RUN, and print its best, or where its experiment goes on."""
    path = journal_of(options.source) if Path(options.source).exists() else None
    if path is not None and path.parent.name != "checkpoint":  # else it is an experiment's
        header = _read_header(path)
        if isinstance(header.get("command"), dict):
            return _resume_command(header, path, options)
    if options.trials or options.workers or options.trial_timeout:
        given = "--trials, --workers and --trial-timeout"
        raise CommandError(f"{given} are for runs of nas search and nas rank; for NNI's: nnictl update.")
    experiment = experiment_of(options.source)
    port = resume_experiment(experiment, options.port)
    print(f"experiment {experiment} goes on: http://localhost:{port}; watch it with: nas show --watch {experiment}")
    return 0


def _resume_command(header: Event, path: Path, options: Namespace) -> int:
    if "resume" in header["command"]:  # begun by a script of the user's own
        raise CommandError(f"{path} cannot be resumed from here: {header['command']['resume']}.")
    job = Job.of(header, path)
    if job.name not in _RESUMES:
        raise CommandError(f"{path} is of nas {job.name}: wanted a run of {' or '.join(_RESUMES)}.")
    given = {name: getattr(options, name) for name in ("trials", "workers", "trial_timeout") if getattr(options, name) is not None}
    return _RESUMES[job.name](replace(job, **given), header, path)


def _read_header(path: Path) -> Event:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a line that was cut short is reported when the journal is opened
        events, _ = read(path)
    if not events:
        raise CommandError(f"{path} is empty: nothing was begun; run its command again.")
    return events[0]
