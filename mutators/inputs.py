"""Find inputs that a model takes: as given, from a shape, or guessed from its first layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from mutators.choices.torch_private import tree_leaves, tree_map
from search_spaces.errors import CostError, ProblemsError
from search_spaces.resolve import FAILURES

Inputs = tuple[Any, ...]
"""One for each argument of forward: tensors, or dicts of them."""
Example = Sequence[int] | torch.Tensor | Sequence[torch.Tensor]
"""A shape without the batch, such as (3, 224, 224); or an input, or one input for each argument of forward."""

SIZES = (32, 64, 28, 224, 16, 8, 24, 48, 96, 128, 12, 20, 40, 56, 112, 160, 192, 256, 299)
"""Heights and widths of images that are tried."""
LENGTHS = (16, 32, 64, 8, 128, 12, 10, 20, 24, 48, 50, 100, 256, 512)
"""Lengths of sequences that are tried."""

Result = TypeVar("Result")
Moved = TypeVar("Moved", torch.Tensor, nn.ModuleList)


def inputs_for(model: nn.Module, example: Example) -> list[Inputs]:
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
    shapes = [(1, *parts)] + ([tuple(parts)] if parts[0] == 1 and len(parts) > 1 else [])
    return [(match_parameters(model, torch.zeros(shape)),) for shape in shapes]


def guess_inputs(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield inputs that suit the layer that is defined first, in batches of two; none for a layer of another kind."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            yield from (random_input(model, (2, module.in_channels, n, n)) for n in SIZES)
        elif isinstance(module, nn.Linear):
            yield random_input(model, (2, module.in_features))
            yield from (random_input(model, (2, n, module.in_features)) for n in LENGTHS)
        elif isinstance(module, nn.Embedding):
            tokens = torch.arange(max(LENGTHS), device=module.weight.device).remainder(module.num_embeddings)
            yield from (tokens[:n].expand(2, -1) for n in LENGTHS)
        elif isinstance(module, (nn.MultiheadAttention, nn.LayerNorm)):
            width = module.embed_dim if isinstance(module, nn.MultiheadAttention) else module.normalized_shape[-1]
            yield from (random_input(model, (2, n, width)) for n in LENGTHS)
        else:
            continue
        return


def random_input(model: nn.Module, shape: Sequence[int]) -> torch.Tensor:
    """Return an input of this shape, of the type and on the device of the model's parameters; always the same."""
    return match_parameters(model, torch.rand(tuple(shape), generator=torch.Generator().manual_seed(0)))


def run_first(
    model: nn.Module,
    candidates: Sequence[Inputs],
    run: Callable[[Inputs], Result],
    error: type[ProblemsError] = CostError,
) -> Result:
    """Return what ``run`` makes of the first inputs that it takes.

    Raises:
        ProblemsError: of the class ``error``: the model takes none of them.
    """
    failed: BaseException | None = None
    for inputs in candidates:
        try:
            return run(inputs)
        except FAILURES as raised:  # whatever the author's forward raises
            failed = failed or raised
    tried = " or ".join(", ".join("x".join(map(str, t.shape)) for t in tree_leaves(inputs)) for inputs in candidates)
    reason = f"{type(failed).__name__}: {first_line(failed)}"
    raise error(f"{type(model).__name__} cannot be run on {tried}: {reason}") from failed


def first_outputs(
    network: nn.Module, candidates: Sequence[Inputs], error: type[ProblemsError] = CostError
) -> tuple[Inputs, list[torch.Tensor]]:
    """Return the first inputs that a network takes, and its outputs, flat. Raises as :func:`run_first` does."""
    device = device_of(network)

    def try_once(inputs: Inputs) -> tuple[Inputs, list[torch.Tensor]]:
        moved: Inputs = tree_map(lambda tensor: tensor.to(device), inputs)
        with torch.no_grad():
            outputs = network(*moved)
        return moved, [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]

    return run_first(network, candidates, try_once, error)


def first_line(error: BaseException | None) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().partition("\n")[0]


def shape_of(example: Example) -> list[Any]:
    """Return the shape of an example as JSON; for tensors with the batch, and one shape for each of several."""
    if isinstance(example, torch.Tensor):
        return list(example.shape)
    return [list(part.shape) if isinstance(part, torch.Tensor) else part for part in example]


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter; the CPU if it has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def match_parameters(model: nn.Module, moved: Moved) -> Moved:
    """Return ``moved`` on the device and in the type of a model's floating-point parameters."""
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return moved.to(like.device, like.dtype)
