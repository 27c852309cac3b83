"""Scores of sub-networks, one JSON line each, flushed and fsynced: a search that was killed finds them again."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mutators.elastic.layers.errors import ElasticError
from search_spaces.files import write_atomically
from search_spaces.schema import Tokens

FORMAT = 1


class Records:
    """The scores that were measured, by tokens, in memory and in a file.

    Args:
        path: of the file; None: in memory only.
        header: what the scores depend on, as JSON; a file with another is refused.

    Raises:
        ElasticError: the file is of something else, each difference is named; or it cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, header: Mapping[str, Any]) -> None:
        self._path = None if path is None else Path(path)
        self._header = {"format": FORMAT, **header}
        self.scores: dict[Tokens, float] = {}
        if self._path is not None:
            try:
                self._open(self._path)
            except (OSError, UnicodeDecodeError) as error:
                raise ElasticError(f"cannot read or write the checkpoint {path}: {error}.") from error

    def add(self, tokens: Tokens, score: float) -> None:
        """Keep a score; it is on the disk when this returns.

        Raises:
            ElasticError: it cannot be written.
        """
        self.scores[tokens] = score
        if self._path is None:
            return
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"tokens": list(tokens), "score": score}) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ElasticError(f"cannot write to the checkpoint {self._path}: {error.strerror}.") from error

    def _open(self, path: Path) -> None:
        if not path.exists() or not path.stat().st_size:
            write_atomically(path, (json.dumps(self._header) + "\n").encode())
            return
        lines = path.read_text(encoding="utf-8").split("\n")
        torn = lines.pop()  # empty, if the last line is whole
        for number, line in enumerate(lines, 1):
            entry = _read(path, number, line)
            if number == 1:
                self._check(path, entry)
            else:
                self._take(path, number, entry)
        if not lines:
            raise ElasticError(f"the checkpoint {path} has no header: it is no file of a search.")
        if torn:
            warnings.warn(f"the last line of {path} is half written, and left out.", stacklevel=4)
            write_atomically(path, ("\n".join(lines) + "\n").encode())

    def _check(self, path: Path, header: Mapping[str, Any]) -> None:
        wanted = json.loads(json.dumps(self._header))
        problems = [
            f"{name}: {_short(header.get(name))} in the file, {_short(wanted.get(name))} now"
            for name in (wanted | dict(header))
            if header.get(name) != wanted.get(name)
        ]
        if problems:
            raise ElasticError(f"the checkpoint {path} is of another search: give another file, or the same:", problems)

    def _take(self, path: Path, number: int, entry: Mapping[str, Any]) -> None:
        tokens, score = entry.get("tokens"), entry.get("score")
        whole = isinstance(tokens, list) and all(type(token) is int for token in tokens)
        if not whole or not isinstance(score, (int, float)) or isinstance(score, bool):
            raise ElasticError(f"{path}, line {number}: got {_short(entry)}, wanted tokens and a score.")
        assert isinstance(tokens, list)
        self.scores[tuple(tokens)] = float(score)


def digest_of(model: nn.Module) -> str:
    """SHA-256 of a model's tensors and their names."""
    found = hashlib.sha256()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(_bytes(tensor))
    return found.hexdigest()


def _bytes(tensor: torch.Tensor) -> bytes:
    content: bytes = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return content


def _read(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ElasticError(f"{path}, line {number} is no JSON: {error}.") from None
    if not isinstance(entry, dict):
        raise ElasticError(f"{path}, line {number}: got {_short(entry)}, wanted an object.")
    return entry


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
