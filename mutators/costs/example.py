"""Inputs for a model that is only measured: from a shape, or as given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from search_spaces.errors import CostError

Example = Sequence[int] | torch.Tensor | Sequence[torch.Tensor]
"""A shape without the batch, such as (3, 224, 224); or an input, or one input for each argument of forward."""


def inputs_for(model: nn.Module, example: Example) -> list[tuple[torch.Tensor, ...]]:
    """Return the inputs to try, the likeliest first.

    Returns: for tensors what was given; for a shape (C, ...) zeros of (1, C, ...), of the type and on the device of
        the model's parameters, and for (1, C, ...) also zeros of this very shape: many write the batch as well.

    Raises:
        CostError: the example is neither.
    """
    if isinstance(example, torch.Tensor):
        return [(example,)]
    parts: Sequence[Any] = example if isinstance(example, Sequence) else ()
    if parts and all(isinstance(part, torch.Tensor) for part in parts):
        return [tuple(parts)]
    if not parts or not all(type(part) is int and part > 0 for part in parts):
        raise CostError(f"the input is {example!r}, wanted a shape such as (3, 224, 224), a tensor, or some of them.")
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    shapes = [(1, *parts)] + ([tuple(parts)] if parts[0] == 1 and len(parts) > 1 else [])
    return [(torch.zeros(shape, dtype=like.dtype, device=like.device),) for shape in shapes]


def told(inputs: tuple[torch.Tensor, ...]) -> str:
    """The shapes, for a message."""
    return ", ".join("x".join(map(str, tensor.shape)) for tensor in inputs)


def shape_of(example: Example) -> list[Any]:
    """The shape as JSON; for tensors with the batch, and one shape for each of several."""
    if isinstance(example, torch.Tensor):
        return list(example.shape)
    return [list(part.shape) if isinstance(part, torch.Tensor) else part for part in example]
