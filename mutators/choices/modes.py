"""Training and evaluation mode of every module, put back after a forward that needs others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Put each module's training mode back afterwards, also after an exception.

    Modules that a ``train()`` of the model does not reach, or that stand in another mode than it, come back as well.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            vars(module)["training"] = training  # by its dict: a candidate may be called "training"
