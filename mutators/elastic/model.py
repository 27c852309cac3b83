"""A supernet as search, export and cost tables need it: a model, its space, and how a sub-network of it is run.

Where the model's own forward takes a depth, the choice of it is added here, and the model is called without it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.value_choice import ValueChoice
from mutators.choices.visitor import Extractable, Extraction
from search_spaces.schema import Space


@contextmanager
def given_depth(model: nn.Module, depths: Sequence[float] | None) -> Iterator[ValueChoice | None]:
    """Give a model, as its child ``depth``, the choice of the depth that its own forward takes as an argument.

    If the body of the ``with`` statement fails, the choice is taken away again.

    Yields: the choice; None where ``depths`` is None.

    Raises:
        ElasticError: forward takes no depth, or the model has something else of this name.
    """
    if depths is None:
        yield None
        return
    name, before = type(model).__name__, getattr(model, "depth", None)
    if "depth" not in inspect.signature(model.forward).parameters:
        raise ElasticError(
            f"elastic_depth is {list(depths)}, but {name}.forward takes no depth: give it one, or make stages elastic "
            "by convert(model, depth=...), which needs no elastic_depth."
        )
    if isinstance(before, ValueChoice):
        if before.values != tuple(depths):
            raise ElasticError(
                f"elastic_depth is {list(depths)}, but this {name} has a choice of {list(before.values)} from an OFA "
                "before: wanted the same, or `del model.depth` first."
            )
        yield before
        return
    if hasattr(model, "depth"):
        raise ElasticError(f"{name} has an attribute 'depth', which is the choice's name: call it something else.")
    choice = ValueChoice(depths)
    model.add_module("depth", choice)
    try:
        yield choice
    except BaseException:
        del model.depth
        raise


class AtDepth(nn.Module):
    """A network whose forward takes a depth, called without: (...) to what ``net(..., depth=depth)`` returns."""

    def __init__(self, net: nn.Module, depth: float) -> None:
        super().__init__()
        self.net, self.depth = net, depth
        self.training = net.training

    def forward(self, *inputs: Any, **others: Any) -> Any:
        """Run the network at the depth."""
        return self.net(*inputs, **others, depth=self.depth)


class Deep(nn.Module, Extractable):
    """A supernet whose forward takes a depth, called without; extracted, it is :class:`AtDepth`."""

    WRAPS = "net"  # keys are the supernet's own

    def __init__(self, net: nn.Module, depth: ValueChoice) -> None:
        super().__init__()
        depth.feeds_layers = True
        self.net = net
        self._depth = [depth]  # it is the supernet's child
        self.training = net.training

    def forward(self, *inputs: Any, **others: Any) -> Any:
        """Run the supernet at the depth that is chosen."""
        return self.net(*inputs, **others, depth=self._depth[0].value)

    def extracted(self, extraction: Extraction) -> AtDepth:
        """Return the plain network, called with the depth that is chosen."""
        (depth,) = self._depth
        return AtDepth(extraction.copy(self.net), depth.values[depth.index_in(extraction.plan)])


@dataclass(frozen=True)
class Supernet:
    """An elastic model, the space of its choices, and what it takes to run a part of it.

    Attributes:
        depth: the choice of the depth that the model's own forward takes as an argument; None: it takes none.
    """

    model: nn.Module
    space: Space
    depth: ValueChoice | None = None

    @property
    def runnable(self) -> nn.Module:
        """The model as a module that is called with its inputs alone."""
        return self.model if self.depth is None else Deep(self.model, self.depth)
