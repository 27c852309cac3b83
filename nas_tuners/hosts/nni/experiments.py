"""Find runs on the disk: by an experiment's id, ``latest``, a folder, or a journal (RUN on a command line)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas_tuners.hosts.nni.failures import describe_experiment_failures
from nas_tuners.hosts.nni.manager import ManagerError
from nas_tuners.runs.journal import JOURNAL, JournalError
from nas_tuners.runs.latest import recall
from search_spaces.checks import is_int, is_number

LATEST = "latest"  # RUN that was started last


def journal_of(run: str) -> Path:
    """Return the journal that ``run`` means. Raises JournalError if there is none."""
    path = Path(run)
    if run == LATEST and not path.exists() and (own := _latest_without_nni()) is not None:
        path = own
    if path.is_file():
        return path
    candidates = [path / JOURNAL] if path.exists() else []
    candidates.append((path if path.exists() else _folder_of(run)) / "checkpoint" / JOURNAL)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = " or ".join(map(str, candidates))
    why = describe_experiment_failures(candidates[-1].parent.parent) or ["was it an experiment with one of our tuners?"]
    raise JournalError("\n".join([f"{run} has no journal ({looked}):", *why]))


def experiment_of(run: str) -> str:
    """Return the id of the experiment that ``run`` means. Raises JournalError if there is none."""
    if not Path(run).exists() and not is_latest_without_nni(run):
        return _folder_of(run).name
    journal = journal_of(run).resolve()
    if journal.parent.name != "checkpoint":
        raise JournalError(f"{journal} does not belong to an NNI experiment: nnictl cannot resume or watch it.")
    folder = journal.parent.parent
    if _folder_of(folder.name).resolve() != folder:
        raise JournalError(f"{folder} is not where nnictl has its experiment {folder.name}: it is a copy.")
    return folder.name


def describe_failures_beside(journal: Path, known: Sequence[str] = ()) -> list[str]:
    """Return lines about failures that the journal of an experiment does not know of; none for other runs."""
    inside = journal.resolve().parent
    return describe_experiment_failures(inside.parent, known) if inside.name == "checkpoint" else []


def is_latest_without_nni(run: str) -> bool:
    """Return whether ``run`` is ``latest``, and means a run of ``nas run`` without NNI."""
    return run == LATEST and not Path(run).exists() and _latest_without_nni() is not None


def _latest_without_nni() -> Path | None:
    """Return the folder of the latest run without NNI, unless an experiment was started after it."""
    found, known = recall(), list_experiments()
    if found is None:
        return None
    folder, started = found
    return folder if not known or started * 1000 >= (known[_latest_of(known)].get("startTime") or 0) else None


def _latest_of(known: dict[str, dict[str, Any]]) -> str:
    return max(known, key=lambda name: known[name].get("startTime") or 0)


def _folder_of(run: str) -> Path:
    try:
        return folder_of(run)
    except ManagerError as error:
        raise JournalError(f"{run} is not a file or folder, and {error}") from None


def folder_of(experiment: str) -> Path:
    """Return an experiment's folder; ``latest`` was started last. Raises ManagerError if there is none."""
    known = list_experiments()
    if experiment == LATEST and known:
        experiment = _latest_of(known)
    entry = known.get(experiment)
    if entry is None:
        raise ManagerError(f"there is no experiment {experiment!r}; nnictl experiment list --all names them.")
    return Path(str(entry.get("logDir") or Path.home() / "nni-experiments")) / experiment


def list_experiments(home: Path | None = None, patience: float = 10.0) -> dict[str, dict[str, Any]]:
    """Return nnictl's list of a user's experiments, by id. Raises ManagerError if the list cannot be read.

    Args:
        home: the user's home folder; None: that of the user who runs this.
        patience: seconds to wait while NNI writes the list.
    """
    path = (home or Path.home()) / "nni-experiments" / ".experiment"
    deadline = time.monotonic() + patience
    while True:
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ManagerError(f"cannot read nnictl's list of experiments, {path}: {error}") from None
        except (ValueError, RecursionError) as error:  # NNI writes it in place, so that it may be half written just now
            if time.monotonic() > deadline:
                raise ManagerError(
                    f"nnictl's list of experiments, {path}, is not JSON: {error}. Was NNI killed while writing it? "
                    "Move it away; the experiments themselves are in folders beside it."
                ) from None
            time.sleep(0.02)
        else:
            entries = known.items() if isinstance(known, dict) else ()
            return {name: entry for name, entry in entries if _is_entry(name, entry)}


def _is_entry(name: str, entry: Any) -> bool:
    """Return whether an entry of nnictl's list may be used: its name in paths and commands, its port in URLs."""
    if not isinstance(entry, dict) or not re.fullmatch(r"\w[\w-]*", name):
        return False
    port, started = entry.get("port"), entry.get("startTime")
    return (port is None or (is_int(port) and 0 < port < 1 << 16)) and (started is None or is_number(started))
