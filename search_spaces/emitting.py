"""Write a search space over an earlier one, and nothing else over anything else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from search_spaces.domains import is_hyperparameter
from search_spaces.errors import SpaceError
from search_spaces.files import write_atomically
from search_spaces.fixing import whole_of
from search_spaces.schema import Space


def space_before(path: Path) -> Space | None:
    """Return the space in a file that is to be written anew; None if there is no file, or an empty one.

    Raises:
        SpaceError: what stands there is something else, or cannot be read, so that it must not be replaced.
    """
    if path.is_dir():
        raise SpaceError(f"{path} is a folder: name the file for the search space.")
    if not path.exists() or not path.stat().st_size:
        return None
    try:
        return Space.load(path)
    except SpaceError as error:
        raise SpaceError(
            f"{path} is left as it is: name another file, or remove it first. {str(error).splitlines()[0]}",
            error.problems,
        ) from None


def added_by_hand(before: Space | None, declared: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """Return the hyper-parameters of an earlier file that a trial does not declare, or that say more than it does.

    More are fields such as ``_levels`` beside the same type and value.
    """
    if before is None:
        return {}
    own = {key: entry for key, entry in before.to_json().items() if is_hyperparameter(whole_of(before.domains[key]))}
    return {key: entry for key, entry in own.items() if key not in declared or _says_more(entry, declared[key])}


def _says_more(entry: Mapping[str, object], than: Mapping[str, object]) -> bool:
    return entry != than and than.items() <= entry.items()


def write_space(path: Path, entries: Mapping[str, object]) -> Space:
    """Check a space and write its file, its keys in their own order; the file is the old one or the new one.

    Raises:
        SpaceError: something is wrong in the space, or the file cannot be written.
    """
    space = Space.from_json(dict(entries))
    try:
        write_atomically(path, (json.dumps(entries, indent=2) + "\n").encode())
    except OSError as error:
        raise SpaceError(f"cannot write the search space {path}: {error.strerror}.") from None
    return space
