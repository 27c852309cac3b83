"""A supernet as search, export and cost tables need it: a model, its space, and how a sub-network of it is run."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mutators.choices.value_choice import ValueChoice
from mutators.elastic.given_depth import Deep
from search_spaces.schema import Space


@dataclass(frozen=True)
class Supernet:
    """An elastic model and what it takes to run a part of it.

    Attributes:
        model: with elastic choices, trained or not.
        space: of these choices.
        depth: the choice of the depth that the model's own forward takes as an argument; None: it takes none.
    """

    model: nn.Module
    space: Space
    depth: ValueChoice | None = None

    @property
    def runnable(self) -> nn.Module:
        """The model as a module that is called with its inputs alone."""
        return self.model if self.depth is None else Deep(self.model, self.depth)
