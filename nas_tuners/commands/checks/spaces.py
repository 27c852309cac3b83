"""Read search spaces from files: JSON, JSON5, and YAML, which NNI reads too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from search_spaces import Space, SpaceError
from search_spaces.yaml_text import load_yaml


def load_space(path: Path) -> Space:
    """Read a space file, JSON, JSON5 or YAML. Raises SpaceError if it cannot be read, or is not a valid space."""
    try:
        return Space.load(path)
    except SpaceError as error:
        written = None if error.problems else _read_yaml(path)
        if not isinstance(written, Mapping):
            raise
    try:
        return Space.from_json(written)
    except SpaceError as error:
        raise SpaceError(f"{path} is {str(error).splitlines()[0]}", error.problems) from None


def is_space(written: Mapping[str, object]) -> bool:
    """Return whether the content of a YAML file is a search space, and not a configuration."""
    return bool(written) and all(isinstance(entry, Mapping) and "_type" in entry for entry in written.values())


def check_space(folder: Path, config: Mapping[str, object]) -> tuple[Space | None, list[str]]:
    """Return the space of a configuration in a folder, None if there is none, and what is wrong with it."""
    inline, file = config.get("searchSpace"), config.get("searchSpaceFile")
    if (inline is None) == (file is None):
        return None, ["wanted exactly one of searchSpaceFile and searchSpace"]
    if file is not None and (path := folder / str(file)).exists() and not path.is_file():
        return None, [f"searchSpaceFile: {path} is no file"]  # a device would be read for ever
    try:
        space = Space.from_json(inline) if file is None else load_space(folder / str(file))
    except SpaceError as error:
        return None, str(error).splitlines() if error.problems else [str(error)]
    if file is not None and _read_yaml(folder / str(file)) is None:
        return space, [f"{folder / str(file)} is JSON5, which NNI cannot read: write plain JSON or YAML"]
    return space, []


def _read_yaml(path: Path) -> Any:
    """Return what NNI reads in a file; None if it cannot."""
    try:
        text = path.read_text(encoding="utf-8")
        with suppress(ValueError):
            return json.loads(text)
        return load_yaml(text.replace("\t", " "))
    except (yaml.YAMLError, OSError, ValueError, RecursionError):
        return None
