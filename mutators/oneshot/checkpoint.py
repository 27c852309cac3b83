"""Write and read the checkpoint of a supernet training: one file of tensors and plain data, replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mutators import checkpoint
from mutators.checkpoint import DamageError
from mutators.choices.errors import OneShotError

FORMAT = 1
_STATE = (dict, type(None))
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "about": dict,
    "model": dict,
    "optimizer": dict,
    "scaler": dict,
    "mutator": object,
    "pruner": _STATE,
    "base_lrs": list,
    "rng": list,
    "step": int,
    "losses": list,
    "loss_sum": float,
}


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically, or raise a OneShotError."""
    try:
        checkpoint.write(path, {"format": FORMAT, **content})
    except OSError as error:
        raise OneShotError(f"cannot write the checkpoint {path}: {error.strerror}.") from None


def read_checkpoint(path: Path, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the content of a checkpoint; None if there is no file.

    Raises:
        OneShotError: it cannot be read, is no checkpoint, is damaged, or is of another training than ``about``
            describes.
    """
    try:
        content = checkpoint.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OneShotError(f"cannot read the checkpoint {path}: {error.strerror}.") from None
    except DamageError as error:
        raise OneShotError(f"{path} is no checkpoint, or damaged: delete it to start anew. {error}") from None
    wrong = [name for name, kind in _FIELDS.items() if name not in content or not isinstance(content[name], kind)]
    if content.get("format") != FORMAT or wrong:
        raise OneShotError(f"{path} is no checkpoint of a supernet training of format {FORMAT}.")
    before = {str(name): value for name, value in content["about"].items()}
    problems = [
        f"{name} is {about.get(name)!r}, in the checkpoint {before.get(name)!r}"
        for name in sorted({*before, *about})
        if repr(before.get(name)) != repr(about.get(name))  # a tensor in a foreign file cannot be compared
    ]
    if problems:
        raise OneShotError(
            f"the checkpoint {path} is of another training: start as it was started, or take another path.", problems
        )
    return content
