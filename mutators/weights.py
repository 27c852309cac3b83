"""Read files of weights that others wrote: tensors and plain data only, so that no file gets code run."""

from __future__ import annotations

import re
import zipfile
from os import PathLike
from typing import Any, BinaryIO

import torch

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_WANTED = "Write one by torch.save(model.state_dict(), FILE)."


def load_plain(file: BinaryIO) -> Any:
    """Return what ``torch.save`` has written, on the CPU: tensors and plain data, nothing that runs.

    Raises ValueError if the file would swell: ``torch.save`` packs nothing, and a megabyte of zeros may hold gigabytes.
    Whatever torch and zipfile raise stays as it is.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as parts:
            size = sum(part.file_size for part in parts.infolist())
        if size > file.seek(0, 2):
            raise ValueError(f"it is packed, and would take {size} bytes")
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def read_state(path: str | PathLike[str], error: type[Exception]) -> dict[str, torch.Tensor]:
    """Return a state dict on the CPU, or raise an ``error`` that says what the file holds instead of one."""
    try:
        with open(path, "rb") as file:
            content = load_plain(file)
    except OSError as raised:
        raise error(f"cannot read the weights {path}: {raised.strerror}.") from None
    except Exception as raised:  # torch, zip and pickle raise all sorts of errors
        raise error(f"{path} is not a state dict of tensors: {describe_unreadable(raised)}") from raised
    if problem := _describe_other(content):
        raise error(f"{path} is not a state dict of tensors: {problem}. {_WANTED}")
    return dict(content)


def describe_unreadable(error: BaseException) -> str:
    """Return why ``torch.load(weights_only=True)`` has refused a file, without torch's advice to trust it."""
    if found := _GLOBAL.search(str(error)):
        return (
            f"it holds a {found[1]}, and loading that could run code that the file brings, so it is not loaded. "
            f"{_WANTED}"
        )
    return f"it is damaged, or not from torch.save. {_WANTED}"


def _describe_other(content: Any) -> str:
    """Return what content is if it is no state dict; else nothing."""
    if not isinstance(content, dict):
        return f"it holds {'None' if content is None else f'a {type(content).__name__}'}"
    others = [(name, value) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    nested = [name for name, value in others if isinstance(value, dict)]
    if others:
        name, value = others[0]
        hint = f", and perhaps its {nested[0]!r} is what is wanted" if nested else ""
        return f"its {name!r} is of type {type(value).__name__}{hint}"
    wrong = [name for name in content if not isinstance(name, str)]
    return f"its keys are {wrong[:3]!r}, wanted names" if wrong else ""
