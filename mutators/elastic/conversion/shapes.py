"""Follow layouts through ``view``, ``flatten`` and the like, which merge and split dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mutators.elastic.conversion.ties import Dim, Layout, Layouts, Node, Ties, size_of


def reshape_layouts(
    ties: Ties, x: torch.Tensor, out: torch.Tensor, wanted: Sequence[int] | None, where: str
) -> Layouts:
    """Return the layouts of ``out``, which has the elements of ``x`` in the same order.

    Args:
        wanted: the sizes that the call gives, with -1 among them; None: it gives none, as for ``flatten``.
    """
    sizes = [-1] * out.ndim if wanted is None else list(wanted)
    before, after = ties.read(x), {}
    for old, new in _groups(list(x.shape), list(out.shape)):
        layouts = {dim: before[dim] for dim in old if dim in before}
        if not layouts:
            continue
        if len(layouts) > 1:
            for layout in layouts.values():
                ties.fix(layout, f"{where} merges two dimensions of channels")
            continue
        dim, layout = layouts.popitem()
        merged = _merge(layout, [x.shape[i] for i in old], old.index(dim))
        target = _find_target(ties, merged, sizes, new, where)
        if target is None:
            continue
        inner = _split(ties, merged, [out.shape[i] for i in new], new.index(target), where)
        if inner is not None:
            after[target] = inner
    return after


def _groups(old: list[int], new: list[int]) -> list[tuple[list[int], list[int]]]:
    """Return which old dimensions became which new ones; dimensions of size 1 are left out."""
    a = [i for i, n in enumerate(old) if n != 1]
    b = [i for i, n in enumerate(new) if n != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while a and b:
        left, right = [a.pop(0)], [b.pop(0)]
        while (n := math.prod(old[i] for i in left)) != (m := math.prod(new[i] for i in right)):
            if n < m:
                left.append(a.pop(0))
            else:
                right.append(b.pop(0))
        groups.append((left, right))
    return groups


def _merge(layout: Layout, sizes: Sequence[int], at: int) -> Layout:
    """Return a dimension's layout after it was merged with those before and after it, row by row."""
    inner = math.prod(sizes[at + 1 :])
    return tuple((node, unit * inner) for node, unit in layout) * math.prod(sizes[:at])


def _find_target(ties: Ties, merged: Layout, wanted: Sequence[int], new: list[int], where: str) -> int | None:
    """Return the new dimension that the channels go to; if there is none, fix the layout and return None."""
    flexible = [i for i in new if wanted[i] == -1 or isinstance(wanted[i], Dim)]
    if len(flexible) != 1:
        ties.fix(merged, f"{where} has its size as a number, wanted -1 or the size of the tensor itself")
        return None
    size = wanted[flexible[0]]
    if isinstance(size, Dim) and size.exact and len(new) == 1:
        if size_of(size.layout) == size_of(merged):
            ties.tie(size.layout, merged, where)
            return flexible[0]
    elif isinstance(size, Dim):
        if size_of(size.layout) == size_of(merged):
            ties.tie(size.layout, merged, where)
        known = {id(node) for node, _ in ties.parts(merged)}
        if {id(node) for node, _ in ties.parts(size.layout)} == known:
            return flexible[0]
    else:
        return flexible[0]
    for layout in (merged, size.layout):
        ties.fix(layout, f"{where} gives it the size of something else")
    return None


def _split(ties: Ties, merged: Layout, sizes: Sequence[int], at: int, where: str) -> Layout | None:
    """Return the layout of one of the dimensions that a merged one is split into; None: it is fixed."""
    outer, inner = math.prod(sizes[:at]), math.prod(sizes[at + 1 :])
    parts = ties.pieces(merged, outer, where)
    if parts is not None:
        if all(unit % inner == 0 for _, unit in parts):
            return tuple((node, unit // inner) for node, unit in parts)
        if len(parts) == 1 and parts[0][1] == 1:
            head = Node(sizes[at])
            ties.bind(parts[0][0], ((head, inner),))
            return ((head, 1),)
    ties.fix(merged, f"{where} divides it in a way that the analysis does not know")
    return None
