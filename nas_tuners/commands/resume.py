"""``nas resume``: bring back a run of ``nas search``, ``nas rank`` or ``nas run``, or an NNI experiment."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

from nas_tuners.commands import CommandError, rank, search
from nas_tuners.hosts.local import ROLES, Job
from nas_tuners.hosts.nni.experiments import experiment_of, folder_of, is_latest_without_nni, journal_of
from nas_tuners.hosts.nni.resume import resume_experiment
from nas_tuners.runs.journal import JOURNAL, Event, read
from nas_tuners.runs.run import load
from search_spaces.trust import TrustError, is_signed, require_trust

_RESUMES = {"search": search.resume, "rank": rank.resume}
_FOREIGN = "and is not as you have begun it on this machine"
_SCRIPTS = {
    "OFA.search": "run the script that calls OFA.search again, with it as checkpoint",
    "Experiment": "run the script that makes the Experiment again, with the same folder",
}


def execute(options: Namespace) -> int:
    """Resume RUN, and print its best, or where its experiment goes on."""
    there = Path(options.source).exists() or is_latest_without_nni(options.source)
    path = journal_of(options.source) if there else None
    if path is not None and path.parent.name != "checkpoint":  # else it is an experiment's
        header = _read_header(path)
        if isinstance(header.get("command"), dict):
            return _resume_command(header, path, options)
    named = _named_functions(options)
    if options.trials or options.workers or options.trial_timeout or named:
        what = ", ".join(named) or "--trials, --workers and --trial-timeout"
        raise CommandError(
            f"{what} are for runs of nas search, nas rank and nas run without NNI; for NNI's: nnictl update."
        )
    experiment = experiment_of(options.source)
    _check_experiment(experiment, options)
    port = resume_experiment(experiment, options.port)
    journal = folder_of(experiment) / "checkpoint" / JOURNAL  # none, if its tuner is not one of ours
    for change in load(journal)[0].changes if journal.is_file() else ():
        print(change)
    print(f"experiment {experiment} goes on: http://localhost:{port}; watch it with: nas show --watch {experiment}")
    return 0


def _named_functions(options: Namespace) -> list[str]:
    return [f"--{role}" for role in (*chain(*ROLES.values()), "rival") if getattr(options, role)]


def _resume_command(header: Event, path: Path, options: Namespace) -> int:
    name = header["command"].get("name")
    if isinstance(name, str) and name in _SCRIPTS:  # begun by a script of the user's own
        raise CommandError(f"{path} cannot be resumed from here: {_SCRIPTS[name]}.")
    if name == "run":
        if flags := _named_functions(options):
            raise CommandError(f"{', '.join(flags)}: {path} is of nas run, which calls no functions.")
        from nas_tuners.commands.run import resume  # imports NNI, which takes a second or more

        return resume(header, path, options)
    job = Job.of(header, path)
    named = _read_functions(job, path, options)
    job = _name_functions(job, named) if named else _trust_functions(job, header, path, options)
    if not (is_signed(header) or options.trust_code):
        job = replace(job, workers=min(job.workers, os.cpu_count() or 1))
    numbers = {name: getattr(options, name) for name in ("trials", "workers", "trial_timeout")}
    given = {name: number for name, number in numbers.items() if number is not None}
    try:
        return _RESUMES[job.name](replace(job, **given), header, path)
    except KeyboardInterrupt as error:  # it ends with the line to type
        flags = [word for role, function in named.items() for word in (_flag(job, role), function)]
        flags += ["--trust-code"] * options.trust_code
        raise KeyboardInterrupt(" ".join([str(error), *map(shlex.quote, flags)])) from None


def _read_functions(job: Job, path: Path, options: Namespace) -> dict[str, str]:
    """Return the functions that the caller names instead of the journal's, by role; empty if there are none."""
    named = {role: str(given) for role in chain(*ROLES.values()) if (given := getattr(options, role))}
    rivals = options.rival or []
    if not named and not rivals:
        return {}
    if named.keys() != set(ROLES[job.name]) or len(rivals) != len(job.rivals):
        wanted = " and ".join(_flag(job, role) for role in job.functions)
        order = f", the rivals in the order of {', '.join(job.rivals)}" if job.rivals else ""
        raise CommandError(f"{path} is of nas {job.name}: wanted {wanted}{order}, or none of them.")
    return {role: named[role] for role in ROLES[job.name]} | dict(zip(job.rivals, rivals, strict=True))


def _flag(job: Job, role: str) -> str:
    return "--rival" if role in job.rivals else f"--{role}"


def _name_functions(job: Job, named: Mapping[str, str]) -> Job:
    """Return the job with the functions that the caller names, of modules in the current folder."""
    if named != job.functions:
        other = [f"{name!r}, begun with {job.functions[role]!r}" for role, name in named.items()]
        sys.stderr.write(f"nas: warning: the run goes on with other functions: {'; '.join(other)}.\n")
    return replace(job, functions=dict(named), folder=str(Path.cwd()))


def _trust_functions(job: Job, header: Event, path: Path, options: Namespace) -> Job:
    """Return the job as it is, if this user has signed it, or trusts the code that it names."""
    trusted, there = is_signed(header), Path(job.folder).is_dir()
    own = " ".join(f"{_flag(job, role)} MODULE:FUNCTION" for role in job.functions)
    named = f"{' and '.join(map(repr, job.functions.values()))} in {job.folder!r}"
    ways = (f"{options.typed} --trust-code", f"{options.typed} {own}    (a function of yours, in this folder)")
    require_trust(trusted or options.trust_code, path, f"{named} to be called, {_FOREIGN}", *ways)
    if not there and not options.trust_code:
        raise TrustError(path, f"{named} to be called, but that folder is gone", ways)
    return job


def _check_experiment(experiment: str, options: Namespace) -> None:
    """Check that this user has begun an experiment: what NNI keeps of it says what runs."""
    journal = folder_of(experiment) / "checkpoint" / JOURNAL
    header = _read_header(journal) if journal.is_file() else {}
    place = os.path.realpath(journal.parent)
    own = is_signed(header) and header.get("checkpoint") == place
    require_trust(
        own or options.trust_code, journal.parent.parent, f"what to run, {_FOREIGN}", f"{options.typed} --trust-code"
    )


def _read_header(path: Path) -> Event:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a line that was cut short is reported when the journal is opened
        events, _ = read(path)
    if not events:
        raise CommandError(f"{path} is empty: nothing was begun; run its command again.")
    return events[0]
