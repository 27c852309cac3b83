"""Keep a search for sub-networks in a journal: ``nas show`` reads it, and a search that was killed goes on with it."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from nas_tuners.runs.journal import Event, JournalError, has_begun, read
from nas_tuners.runs.run import Run
from nas_tuners.search import Search
from search_spaces.schema import Space

COMMAND = {"name": "OFA.search"}
"""For ``nas resume``, which says what to do: only the user's script has the supernet and its data."""


def open_run(search: Search, space: Space, path: str | PathLike[str] | None, scoring: Mapping[str, Any]) -> Run:
    """Return a new run, or the one whose journal is at ``path``, where that left off.

    Without a path it is in memory only. ``scoring`` is all that the scores depend on, as JSON.

    Raises:
        ElasticError: the file is of another search, each difference is named; or it cannot be read or written.
    """
    if path is None:
        return Run.start(search, space)
    path = Path(path)
    try:
        _refuse_older(path)
        if not has_begun(path):
            return Run.start(search, space, path=path, command=COMMAND, scoring=dict(scoring))
        _check_header(_read_header(path), search, space, scoring, path)
        return Run.resume(search, path)
    except JournalError as error:
        raise ElasticError(f"the checkpoint cannot be used: {error}") from error
    except OSError as error:
        raise ElasticError(f"cannot read or write the checkpoint {path}: {error.strerror}.") from error


def _refuse_older(path: Path) -> None:
    """Raise an ElasticError if the file is of the format before journals."""
    if path.is_file() and _read_begin(path).startswith(b'{"format": 1, "space": '):
        raise ElasticError(
            f"{path} holds scores in an older format, which is no longer read: give another file as checkpoint, and "
            "the search begins anew."
        )


def _read_begin(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(64)


def _read_header(path: Path) -> Event:
    """Return the first event of a journal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a torn last line: Run.resume warns of it
        return read(path)[0][0]


def _check_header(header: Event, search: Search, space: Space, scoring: Mapping[str, Any], path: Path) -> None:
    """Check that a journal is of this search. The cost table is checked by its digest when the run is resumed."""
    begun_with, scored = header["search"], header.get("scoring")
    same = header.get("space") == space.to_json() and list(header["space"]) == list(space.keys)
    then = {"space": space.digest if same else header["digest"], "search": begun_with["name"]}
    then |= (scored if isinstance(scored, dict) else {}) | begun_with["arguments"]
    now = {"space": space.digest, **scoring, "search": type(search).__name__, **search.arguments}
    now = json.loads(json.dumps(now))
    problems = [
        f"{name}: {_shorten(then.get(name))} in the file, {_shorten(now.get(name))} now"
        for name in now | then
        if name != "cost_table" and then.get(name) != now.get(name)
    ]
    if problems:
        raise ElasticError(f"the checkpoint {path} is of another search: give another file, or the same:", problems)


def digest_of(model: nn.Module) -> str:
    """Return the SHA-256 of a model's tensors and their names."""
    found = hashlib.sha256()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
