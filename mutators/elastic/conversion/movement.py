"""Rules for functions that move, cut or reshape channels and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from mutators.elastic.conversion.calls import Call, Rule, fix_unknown, fixed_layout, resolve_dims
from mutators.elastic.conversion.shapes import reshape_layouts
from mutators.elastic.conversion.ties import Dim, Layouts


def _permute(call: Call) -> None:
    _reorder(call, _sizes(call, "dims"))


def _transpose(call: Call) -> None:
    order = list(range(call.x.ndim))
    if call.name in ("t", "T"):
        order.reverse()
    else:
        a = call.argument(1, "dim0", -2) if call.name != "mT" else -2
        b = call.argument(2, "dim1", -1) if call.name != "mT" else -1
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


def _flatten(call: Call) -> None:
    """Reshape to the sizes of the result; also where only dimensions of size 1 come or go."""
    call.write(reshape_layouts(call.ties, call.x, call.out, None, call.name))


def _view(call: Call) -> None:
    if len(call.args) > 1 and isinstance(call.args[1], torch.dtype):
        return fix_unknown(call)
    wanted = _sizes(call, "shape" if "shape" in call.kwargs else "size")
    return call.write(reshape_layouts(call.ties, call.x, call.out, wanted, call.name))


def _unflatten(call: Call) -> None:
    dim = call.argument(1, "dim", 0) % call.x.ndim
    inner = list(call.argument(2, "sizes", ()))
    wanted = [-1] * dim + inner + [-1] * (call.x.ndim - dim - 1)
    call.write(reshape_layouts(call.ties, call.x, call.out, wanted, call.name))


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
    call.fix_others([at for at in call.layouts if at != dim], f"{call.name} takes its channels one by one")
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


MOVEMENT: dict[str, Rule] = {
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "t", "T", "mT"), _transpose),
    **dict.fromkeys(("view", "reshape"), _view),
    **dict.fromkeys(("flatten", "ravel", "squeeze", "unsqueeze"), _flatten),
    **dict.fromkeys(("expand", "expand_as"), _expand),
    **dict.fromkeys(("chunk", "split"), _chunk),
    **dict.fromkeys(("roll", "flip"), _rearrange),
    "getitem": _getitem,
    "pad": _pad,
    "permute": _permute,
    "unbind": _unbind,
    "unflatten": _unflatten,
}
"""Rules by the function's name."""
