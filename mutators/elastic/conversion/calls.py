"""Describe one function call of a forward pass to the rules that say what it does to channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from mutators.choices.torch_private import tree_leaves
from mutators.elastic.conversion.ties import Layout, Layouts, Node, Ties

Arguments = tuple[Any, ...]
Named = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """A call of a function or method, by its name without underscores, and the layouts of the tensors in it."""

    ties: Ties
    name: str
    args: Arguments
    kwargs: Named
    out: Any

    @cached_property
    def tensors(self) -> list[torch.Tensor]:
        """All tensors among the arguments."""
        return tensors_in((self.args, self.kwargs))

    @property
    def x(self) -> torch.Tensor:
        """The first tensor."""
        return self.tensors[0]

    @property
    def layouts(self) -> Layouts:
        """The layouts of the first tensor."""
        return self.ties.read(self.x)

    def argument(self, at: int, name: str, default: Any) -> Any:
        """Return an argument that was given by position or by name."""
        return self.kwargs.get(name, self.args[at] if len(self.args) > at else default)

    def write(self, layouts: Layouts) -> None:
        """Set the layouts of the result."""
        self.ties.write(self.out, layouts)

    def fix_others(self, kept: Iterable[int], why: str) -> None:
        """Fix the widths of the first tensor in all dimensions but those kept."""
        for dim, layout in self.layouts.items():
            if dim not in kept:
                self.ties.fix(layout, why)


Rule = Callable[[Call], None]


def fix_unknown(call: Call) -> None:
    """Fix all widths that go into a function without a rule."""
    fix_all(call.ties, call.tensors, f"it goes into {call.name}, which the analysis does not know")
    for tensor in tensors_in(call.out):  # also where it is an operand that was changed in place
        call.ties.write(tensor, {})


def fix_all(ties: Ties, tensors: Iterable[torch.Tensor], why: str) -> None:
    """Fix every width of these tensors."""
    for tensor in tensors:
        for layout in ties.read(tensor).values():
            ties.fix(layout, why)


def tensors_in(tree: Any) -> list[torch.Tensor]:
    """Return all tensors in nested containers."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def resolve_dims(dims: Any, ndim: int) -> set[int] | None:
    """Return dimensions as numbers from 0 up; None: none were given."""
    if dims is None:
        return None
    return {dim % ndim for dim in ([dims] if isinstance(dims, int) else dims)}


def fixed_layout(size: int) -> Layout:
    """Return the layout of channels whose number never changes."""
    return ((Node(size, "its size is fixed"), 1),)
