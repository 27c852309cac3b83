"""The checkpoint of a supernet training: one file, either the old or the new, of tensors and plain data."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mutators.oneshot.errors import OneShotError
from search_spaces.files import write_atomically

FORMAT = 1
_FIELDS = ("about", "model", "optimizer", "scaler", "mutator", "base_lrs", "rng", "step", "losses", "loss_sum")


def to_bytes(content: Mapping[str, Any]) -> bytes:
    """Serialise tensors and plain data."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def from_bytes(content: bytes) -> dict[str, Any]:
    """Read what :func:`to_bytes` gave, to the CPU; nothing but tensors and plain data."""
    loaded: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return loaded


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write atomically.

    Raises:
        OneShotError: it cannot be written.
    """
    try:
        write_atomically(path, to_bytes({"format": FORMAT, **content}))
    except OSError as error:
        raise OneShotError(f"cannot write the checkpoint {path}: {error.strerror}.") from None


def read_checkpoint(path: Path, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what :func:`write_checkpoint` wrote; None if there is no file.

    Args:
        path: of the file.
        about: what this training is: everything that has to be the same for going on to be exact.

    Raises:
        OneShotError: it cannot be read, is no checkpoint, or is of another training; the differences are named.
    """
    try:
        content = from_bytes(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OneShotError(f"cannot read the checkpoint {path}: {error.strerror}.") from None
    except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError):
        raise OneShotError(f"{path} is no checkpoint, or damaged: delete it to start anew.") from None
    wanted = {"format", *_FIELDS}
    if not isinstance(content, dict) or content.get("format") != FORMAT or not wanted <= content.keys():
        raise OneShotError(f"{path} is no checkpoint of a supernet training of format {FORMAT}.")
    problems = _differences(content["about"], about)
    if problems:
        raise OneShotError(
            f"the checkpoint {path} is of another training: start as it was started, or take another path.", problems
        )
    return content


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} is {now.get(name)!r}, in the checkpoint {before.get(name)!r}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
