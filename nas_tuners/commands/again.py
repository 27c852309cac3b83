"""``nas resume`` of a run that is of no NNI experiment: its journal says which command began it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from nas_tuners.commands import CommandError
from nas_tuners.commands.locate import journal_of
from nas_tuners.commands.rank import resume_rank
from nas_tuners.commands.search import Job, resume_search
from nas_tuners.runs.journal import Event, read

_COMMANDS = {"search": resume_search, "rank": resume_rank}


def command_of(source: str) -> str | None:
    """The command whose run ``source`` is; None for an experiment, or where there is nothing at all."""
    if not Path(source).exists():
        return None
    path = journal_of(source)
    command = None if path.parent.name == "checkpoint" else _header(path).get("command")
    return str(command.get("name")) if isinstance(command, dict) else None


def again(source: str, trials: int | None = None, workers: int | None = None) -> list[str]:
    """Go on with a run of ``nas search`` or ``nas rank``.

    Args:
        source: its folder or journal.
        trials: results in total; None: as many as it was begun with.
        workers: processes; None: as many as it was begun with.

    Returns: lines that say what was found.

    Raises:
        CommandError: it is of another command.
        JournalError: it cannot be resumed.
    """
    path = journal_of(source)
    header = _header(path)
    if isinstance(header["command"], dict) and "resume" in header["command"]:  # begun by a script of the user's own
        raise CommandError(f"{path} cannot be resumed from here: {header['command']['resume']}.")
    job = Job.of(header, path)
    if job.name not in _COMMANDS:
        raise CommandError(f"{path} is of nas {job.name}: wanted a run of {' or '.join(_COMMANDS)}.")
    if trials is not None:
        job = replace(job, trials=trials)
    if workers is not None:
        job = replace(job, workers=workers)
    return _COMMANDS[job.name](job, header, path)


def _header(path: Path) -> Event:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a line that was cut short: whoever opens the journal next tells of it
        events, _ = read(path)
    if not events:
        raise CommandError(f"{path} is empty: nothing was begun; begin again.")
    return events[0]
