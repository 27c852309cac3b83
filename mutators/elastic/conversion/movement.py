"""Rules for functions that move, cut or reshape channels and compute nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from mutators.elastic.conversion.calls import Call, Rule, fix_unknown, fixed_layout, resolve_dims
from mutators.elastic.conversion.ties import Dim, Layout, Layouts, Node, Ties, size_of


def _transpose(call: Call) -> None:
    order = list(range(call.x.ndim))
    if call.name in ("t", "T"):
        order.reverse()
    else:
        a, b = call.argument(1, "dim0", -2), call.argument(2, "dim1", -1)
        order[a], order[b] = order[b], order[a]
    _reorder(call, order)


def _reorder(call: Call, order: Sequence[int]) -> None:
    layouts, ndim = call.layouts, call.x.ndim
    call.write({new: layouts[old % ndim] for new, old in enumerate(order) if old % ndim in layouts})


def _sizes(call: Call, name: str) -> list[int]:
    """Return sizes that may come one by one, as a tuple or by name."""
    given = call.kwargs.get(name, call.args[1:])
    if len(given) == 1 and not isinstance(given[0], int):
        given = given[0]
    return list(given)


def _view(call: Call) -> None:
    if len(call.args) > 1 and isinstance(call.args[1], torch.dtype):
        return fix_unknown(call)
    return _reshape(call, _sizes(call, "shape" if "shape" in call.kwargs else "size"))


def _unflatten(call: Call) -> None:
    dim = call.argument(1, "dim", 0) % call.x.ndim
    wanted = [-1] * dim + list(call.argument(2, "sizes", ())) + [-1] * (call.x.ndim - dim - 1)
    _reshape(call, wanted)


def _expand(call: Call) -> None:
    wanted = list(call.out.shape) if call.name == "expand_as" else _sizes(call, "size")
    new = call.out.ndim - call.x.ndim
    kept: Layouts = {}
    for dim, layout in call.layouts.items():
        size = wanted[dim + new]
        if isinstance(size, Dim) and size.exact:
            call.ties.tie(size.layout, layout, call.name)
        elif size != -1:
            call.ties.fix(layout, f"{call.name} has its size as a number, wanted -1")
        kept[dim + new] = layout
    call.write(kept)


def _pad(call: Call) -> None:
    """Put constant channels beside those that are padded."""
    pads = list(call.argument(1, "pad", ()))
    layouts: Layouts = {}
    for dim, layout in call.layouts.items():
        at = 2 * (call.x.ndim - 1 - dim)
        before, after = pads[at : at + 2] if at + 1 < len(pads) else (0, 0)
        if min(before, after) < 0:
            call.ties.fix(layout, f"{call.name} cuts its channels")
        else:
            head, tail = (fixed_layout(n) if n else () for n in (before, after))
            layouts[dim] = (*head, *layout, *tail)
    call.write(layouts)


def _chunk(call: Call) -> None:
    """Divide a width into equal parts, which are one width."""
    dim = call.argument(2, "dim", 0) % call.x.ndim
    layouts = dict(call.layouts)
    cut = layouts.pop(dim, None)
    if cut is not None:
        equal = call.name == "chunk" and len({part.shape for part in call.out}) == 1
        piece = call.ties.pieces(cut, len(call.out), call.name) if equal else None
        if piece is not None:
            layouts[dim] = piece
        else:
            call.ties.fix(cut, f"{call.name} cuts its channels")
    for part in call.out:
        call.ties.write(part, dict(layouts))


def _rearrange(call: Call) -> None:
    """Roll or flip along some dimensions."""
    dims = resolve_dims(call.argument(2 if call.name == "roll" else 1, "dims", None), call.x.ndim)
    kept = [dim for dim in range(call.x.ndim) if dims is not None and dim not in dims]
    call.fix_others(kept, f"{call.name} changes the order of its channels")
    call.write(dict(call.layouts))


def _unbind(call: Call) -> None:
    dim = call.argument(1, "dim", 0) % call.x.ndim
    layouts = {at - (at > dim): layout for at, layout in call.layouts.items() if at != dim}
    call.ties.fix(call.layouts.get(dim, ()), f"{call.name} takes its channels one by one")
    for part in call.out:
        call.ties.write(part, dict(layouts))


def _getitem(call: Call) -> None:
    x, index = call.args
    if not isinstance(x, torch.Tensor):
        return None
    index = index if isinstance(index, tuple) else (index,)
    if not all(i is None or i is Ellipsis or isinstance(i, (int, slice)) for i in index):
        return fix_unknown(replace(call, name="indexing"))
    used = sum(i is not None and i is not Ellipsis for i in index)
    if Ellipsis not in index:
        index = (*index, Ellipsis)
    before, layouts = call.layouts, Layouts()
    old = new = 0
    for i in index:
        span = x.ndim - used if i is Ellipsis else 1
        if i is None:
            new += 1
            continue
        if i is Ellipsis or i == slice(None):
            layouts |= {new + k: before[old + k] for k in range(span) if old + k in before}
            new += span
        else:
            if old in before:
                call.ties.fix(before[old], "indexing takes some of its channels")
            new += isinstance(i, slice)
        old += span
    return call.write(layouts)


def _reshape(call: Call, wanted: Sequence[int] | None = None) -> None:
    """Give the result, which has the same elements in the same order, its layouts.

    Args:
        wanted: the sizes that the call gives, with -1 among them; None: it gives none, as for ``flatten``.
    """
    ties, old_sizes, new_sizes = call.ties, list(call.x.shape), list(call.out.shape)
    sizes = [-1] * len(new_sizes) if wanted is None else wanted
    after: Layouts = {}
    for old, new in _groups(old_sizes, new_sizes):
        layouts = {dim: call.layouts[dim] for dim in old if dim in call.layouts}
        if len(layouts) > 1:
            ties.fix(sum(layouts.values(), ()), f"{call.name} merges two dimensions of channels")
        elif layouts:
            dim, layout = layouts.popitem()
            merged = _merge(layout, [old_sizes[i] for i in old], old.index(dim))
            target = _find_target(ties, merged, sizes, new, call.name)
            if target is not None:
                inner = _split(ties, merged, [new_sizes[i] for i in new], new.index(target), call.name)
                after |= {target: inner} if inner else {}
    call.write(after)


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
    if not isinstance(size, Dim):
        return flexible[0]
    same = size_of(size.layout) == size_of(merged)
    if same:
        ties.tie(size.layout, merged, where)
    if not (size.exact and len(new) == 1):
        same = {node for node, _ in ties.parts(merged)} == {node for node, _ in ties.parts(size.layout)}
    if same:
        return flexible[0]
    ties.fix((*merged, *size.layout), f"{where} gives it the size of something else")
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


MOVEMENT: dict[str, Rule] = {
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "t", "T", "mT"), _transpose),
    **dict.fromkeys(("view", "reshape"), _view),
    **dict.fromkeys(("flatten", "ravel", "squeeze", "unsqueeze"), _reshape),
    **dict.fromkeys(("expand", "expand_as"), _expand),
    **dict.fromkeys(("chunk", "split"), _chunk),
    **dict.fromkeys(("roll", "flip"), _rearrange),
    "getitem": _getitem,
    "pad": _pad,
    "permute": lambda call: _reorder(call, _sizes(call, "dims")),
    "unbind": _unbind,
    "unflatten": _unflatten,
}
"""Rules by the function's name."""
