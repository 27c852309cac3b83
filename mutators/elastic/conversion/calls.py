"""What all rules for function calls have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from mutators.choices.torch_private import tree_leaves
from mutators.elastic.conversion.ties import Layout, Node, Ties

Arguments = tuple[Any, ...]
Named = Mapping[str, Any]
Rule = Callable[[Ties, str, Arguments, Named, Any], None]
"""(ties, the function's name, its arguments, those by name, its result)."""


def tensors_in(tree: Any) -> list[torch.Tensor]:
    """All tensors in nested containers."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def unknown(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    """Nothing is known: all that goes in stays as it is."""
    fix_all(ties, tensors_in((args, kwargs)), f"it goes into {name}, of which the analysis does not know what it does")
    for tensor in tensors_in(out):  # also where it is an operand that was changed in place
        ties.write(tensor, {})


def fix_all(ties: Ties, tensors: Iterable[torch.Tensor], why: str) -> None:
    """Keep every width of these tensors."""
    for tensor in tensors:
        for layout in ties.read(tensor).values():
            ties.fix(layout, why)


def fix_others(ties: Ties, x: torch.Tensor, kept: Iterable[int], why: str) -> None:
    for dim, layout in ties.read(x).items():
        if dim not in kept:
            ties.fix(layout, why)


def argument(args: Arguments, kwargs: Named, at: int, name: str, default: Any) -> Any:
    return kwargs.get(name, args[at] if len(args) > at else default)


def dims_of(dims: Any, ndim: int) -> set[int] | None:
    if dims is None:
        return None
    return {dim % ndim for dim in ([dims] if isinstance(dims, int) else dims)}


def constant(size: int) -> Layout:
    return ((Node(size, "its size is fixed"), 1),)
