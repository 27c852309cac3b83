"""Write and read the checkpoint of a supernet training: one file of tensors and plain data, replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mutators import checkpoint
from mutators.checkpoint import DamageError
from mutators.choices.errors import OneShotError
from search_spaces.checks import is_number
from search_spaces.errors import shorten

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


def check_optimizer(
    optimizer: torch.optim.Optimizer, options: Sequence[Mapping[str, Any]], lrs: Sequence[float]
) -> None:
    """Check what an optimizer has loaded, which torch does not: it would fail at the first step.

    ``options`` are its groups of before, ``lrs`` the highest learning rate of each. Raises ValueError.
    """
    if len(lrs) != len(options) or not all(map(is_number, lrs)):
        raise ValueError(f"base_lrs is {shorten(lrs)}, wanted {len(options)} numbers")
    for group, before in zip(optimizer.param_groups, options, strict=True):
        for name, value in before.items():
            alike = type(group.get(name)) is type(value) or (is_number(group.get(name)) and is_number(value))
            if name != "params" and not alike:
                raise ValueError(f"the optimizer's {name} is {shorten(group.get(name))}, wanted such as {value!r}")
    for parameter, state in optimizer.state.items():
        if not isinstance(state, dict) or not all(_is_of(parameter, value) for value in state.values()):
            raise ValueError("the optimizer's state is not that of its parameters")


def _is_of(parameter: object, value: object) -> bool:
    if isinstance(value, torch.Tensor) and isinstance(parameter, torch.Tensor):
        return value.dim() == 0 or value.shape == parameter.shape
    return value is None or isinstance(value, (int, float))
