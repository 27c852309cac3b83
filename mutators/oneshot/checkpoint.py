"""Write and read the checkpoint of a supernet training: one file of tensors and plain data, replaced as a whole."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mutators.choices.errors import OneShotError
from search_spaces.files import write_atomically

FORMAT = 1
_FIELDS = {"about", "model", "optimizer", "scaler", "mutator", "base_lrs", "rng", "step", "losses", "loss_sum"}


def to_bytes(content: Mapping[str, Any]) -> bytes:
    """Serialise tensors and plain data."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def from_bytes(content: bytes) -> dict[str, Any]:
    """Read the content of :func:`to_bytes` to the CPU; nothing but tensors and plain data."""
    loaded: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return loaded


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically, or raise a OneShotError."""
    try:
        write_atomically(path, to_bytes({"format": FORMAT, **content}))
    except OSError as error:
        raise OneShotError(f"cannot write the checkpoint {path}: {error.strerror}.") from None


def read_checkpoint(path: Path, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the content of a checkpoint; None if there is no file.

    Raises:
        OneShotError: it cannot be read, is no checkpoint, or is of another training than ``about`` describes.
    """
    try:
        content = from_bytes(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OneShotError(f"cannot read the checkpoint {path}: {error.strerror}.") from None
    except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError):
        raise OneShotError(f"{path} is no checkpoint, or damaged: delete it to start anew.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not content.keys() >= _FIELDS:
        raise OneShotError(f"{path} is no checkpoint of a supernet training of format {FORMAT}.")
    before = content["about"]
    problems = [
        f"{name} is {about.get(name)!r}, in the checkpoint {before.get(name)!r}"
        for name in sorted({*before, *about})
        if before.get(name) != about.get(name)
    ]
    if problems:
        raise OneShotError(
            f"the checkpoint {path} is of another training: start as it was started, or take another path.", problems
        )
    return content
