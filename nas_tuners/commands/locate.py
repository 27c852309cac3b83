"""RUN on a command line: an experiment's id, ``latest``, a folder, or a journal."""

from __future__ import annotations

from pathlib import Path

from nas_tuners.commands import CommandError
from nas_tuners.hosts.nni.manager import ManagerError, folder_of

NAME = "journal.jsonl"


def journal_of(run: str) -> Path:
    """Return the journal that ``run`` means.

    Raises:
        CommandError: there is none.
    """
    path = Path(run)
    candidates = [path] if path.is_file() else [path / NAME, path / "checkpoint" / NAME]
    if not path.exists():
        try:
            candidates = [folder_of(run) / "checkpoint" / NAME]
        except ManagerError as error:
            raise CommandError(f"{run} is no file and no folder, and {error}") from None
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    wanted = " or ".join(str(candidate) for candidate in candidates)
    raise CommandError(f"{run} has no journal ({wanted}): did the experiment run one of our tuners?")


def experiment_of(run: str) -> str:
    """Return the id of the experiment that ``run`` means."""
    path = Path(run)
    if not path.exists():
        try:
            return folder_of(run).name
        except ManagerError as error:
            raise CommandError(f"{run} is no file and no folder, and {error}") from None
    journal = journal_of(run).resolve()
    if journal.parent.name != "checkpoint":
        raise CommandError(f"{journal} is of no NNI experiment: there is nothing for nnictl to resume.")
    return journal.parent.parent.name
