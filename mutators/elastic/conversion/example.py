"""The input that a model is analysed with: as given, or found by trying."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from mutators.elastic.layers.errors import ElasticError

SIZES = (32, 64, 28, 224, 16, 8, 24, 48, 96, 128, 12, 20, 40, 56, 112, 160, 192, 256, 299)
"""Heights and widths of images that are tried."""

LENGTHS = (16, 32, 64, 8, 128, 12, 10, 20, 24, 48, 50, 100, 256, 512)
"""Lengths of sequences that are tried."""


@dataclass(frozen=True)
class Example:
    """Arguments of a forward pass."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def run(self, model: nn.Module) -> Any:
        """The model's output."""
        mine = self.copied()
        return model(*mine.args, **mine.kwargs)

    def copied(self) -> Example:
        """With tensors of its own, which a forward may change."""
        args, kwargs = tree_map_only(torch.Tensor, torch.clone, (self.args, dict(self.kwargs)))
        return Example(args, kwargs)


def example_of(model: nn.Module, example: Any, input_shape: Sequence[int] | None) -> Example | None:
    """What to run ``model`` on; None: nothing was given, and nothing that was tried fits.

    Args:
        example: a tensor, a tuple of arguments, or a mapping of them by name; None: see ``input_shape``.
        input_shape: of one tensor, with the batch; None: shapes are tried that suit the model's first layer.

    Raises:
        ElasticError: both are given, the shape is none, or the model does not run on them.
    """
    if example is not None and input_shape is not None:
        raise ElasticError("example and input_shape are both given: wanted one of them.")
    if example is None and input_shape is None:
        return next((found for found in _tried(model) if _error(model, found) is None), None)
    if input_shape is not None:
        if not (isinstance(input_shape, Sequence) and all(type(n) is int and n > 0 for n in input_shape)):
            raise ElasticError(f"input_shape is {input_shape!r}, wanted sizes with the batch, such as (2, 3, 32, 32).")
        found = Example((_random(model, input_shape),))
    elif isinstance(example, Mapping):
        found = Example((), dict(example))
    else:
        found = Example(tuple(example) if isinstance(example, (tuple, list)) else (example,))
    problem = _error(model, found)
    if problem:
        raise ElasticError(f"the model does not run on the example: {problem}.")
    return found


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Within it the model may run as it likes: modes, buffers and generators are put back."""
    modes = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _error(model: nn.Module, example: Example) -> str | None:
    try:
        with undisturbed(model):
            example.run(model.eval())
    except Exception as error:  # a model may raise anything
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


def _tried(model: nn.Module) -> Iterator[Example]:
    """Inputs that suit the layer that is defined first, a batch of two of each."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            yield from (Example((_random(model, (2, module.in_channels, n, n)),)) for n in SIZES)
        elif isinstance(module, nn.Linear):
            yield Example((_random(model, (2, module.in_features)),))
            yield from (Example((_random(model, (2, n, module.in_features)),)) for n in LENGTHS)
        elif isinstance(module, nn.Embedding):
            tokens = torch.arange(max(LENGTHS), device=module.weight.device).remainder(module.num_embeddings)
            yield from (Example((tokens[:n].expand(2, -1),)) for n in LENGTHS)
        elif isinstance(module, (nn.MultiheadAttention, nn.LayerNorm)):
            width = module.embed_dim if isinstance(module, nn.MultiheadAttention) else module.normalized_shape[-1]
            yield from (Example((_random(model, (2, n, width)),)) for n in LENGTHS)
        else:
            continue
        return


def _random(model: nn.Module, shape: Sequence[int]) -> torch.Tensor:
    """Numbers of the model's type, on its device; always the same."""
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    numbers = torch.rand(tuple(shape), generator=torch.Generator().manual_seed(0))
    return numbers.to(like.device, like.dtype)
