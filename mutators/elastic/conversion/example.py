"""Run the model that is converted on an example, as given or guessed, without changing the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.switch import kept_modes
from mutators.choices.torch_private import tree_map_only
from mutators.inputs import first_line, guess_inputs, random_input


@dataclass(frozen=True)
class Example:
    """Arguments of a forward pass."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def run(self, model: nn.Module) -> Any:
        """Return the model's output on a copy of the arguments."""
        mine = self.copy()
        return model(*mine.args, **mine.kwargs)

    def copy(self) -> Example:
        """Return an example with tensors of its own, which a forward may change."""
        args, kwargs = tree_map_only(torch.Tensor, torch.clone, (self.args, dict(self.kwargs)))
        return Example(args, kwargs)


def example_of(model: nn.Module, example: Any, input_shape: Sequence[int] | None) -> Example | None:
    """Return what to run ``model`` on; None: nothing was given, and nothing that was tried fits.

    Args:
        example: a tensor, a tuple of arguments, or a mapping of them by name; None: see ``input_shape``.
        input_shape: of one tensor, with the batch; None: shapes are tried that suit the model's first layer.

    Raises:
        ElasticError: both are given, the shape is none, or the model does not run on them.
    """
    if example is not None and input_shape is not None:
        raise ElasticError("example and input_shape are both given: wanted one of them.")
    if example is None and input_shape is None:
        guesses = (Example((tensor,)) for tensor in guess_inputs(model))
        return next((guess for guess in guesses if _error(model, guess) is None), None)
    if input_shape is not None:
        if not (isinstance(input_shape, Sequence) and all(type(n) is int and n > 0 for n in input_shape)):
            raise ElasticError(f"input_shape is {input_shape!r}, wanted sizes with the batch, such as (2, 3, 32, 32).")
        found = Example((random_input(model, input_shape),))
    elif isinstance(example, Mapping):
        found = Example((), dict(example))
    else:
        found = Example(tuple(example) if isinstance(example, (tuple, list)) else (example,))
    if problem := _error(model, found):
        raise ElasticError(f"the model does not run on the example: {problem}.")
    return found


@contextmanager
def kept_state(model: nn.Module) -> Iterator[None]:
    """Put modes, buffers and generators back after the model has run, whatever it did to them."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    try:
        with kept_modes(model), torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def describe_error(error: Exception) -> str:
    """Return an error's class and the first line of its message."""
    return f"{type(error).__name__}: {first_line(error)}"


def _error(model: nn.Module, example: Example) -> str | None:
    try:
        with kept_state(model):
            example.run(model.eval())
    except Exception as error:  # a model may raise anything
        return describe_error(error)
    return None
