"""Rules for functions that move, cut or reshape channels and compute nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mutators.elastic.conversion.calls import (
    Arguments,
    Named,
    Rule,
    argument,
    constant,
    dims_of,
    fix_others,
    tensors_in,
    unknown,
)
from mutators.elastic.conversion.shapes import reshaped
from mutators.elastic.conversion.ties import Dim, Layouts, Ties


def _moved(ties: Ties, x: torch.Tensor, out: torch.Tensor, order: Sequence[int]) -> None:
    layouts = ties.read(x)
    ties.write(out, {new: layouts[old % x.ndim] for new, old in enumerate(order) if old % x.ndim in layouts})


def _permute(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    x = tensors_in((args, kwargs))[0]
    _moved(ties, x, out, _sizes(args, kwargs, "dims"))


def _sizes(args: Arguments, kwargs: Named, name: str) -> list[int]:
    """Sizes that may come one by one, as a tuple or by name."""
    given = kwargs.get(name, args[1:])
    if len(given) == 1 and not isinstance(given[0], int):
        given = given[0]
    return list(given)


def _transpose(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    x = tensors_in((args, kwargs))[0]
    order = list(range(x.ndim))
    if name in ("t", "T"):
        order.reverse()
    else:
        a = argument(args, kwargs, 1, "dim0", -2) if name != "mT" else -2
        b = argument(args, kwargs, 2, "dim1", -1) if name != "mT" else -1
        order[a], order[b] = order[b], order[a]
    _moved(ties, x, out, order)


def _flatten(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    x = tensors_in((args, kwargs))[0]
    ties.write(out, reshaped(ties, x, out, None, name))


def _view(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    x = args[0]
    if len(args) > 1 and isinstance(args[1], torch.dtype):
        return unknown(ties, name, args, kwargs, out)
    wanted = _sizes(args, kwargs, "shape" if "shape" in kwargs else "size")
    return ties.write(out, reshaped(ties, x, out, wanted, name))


def _unflatten(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    x = args[0]
    dim = argument(args, kwargs, 1, "dim", 0) % x.ndim
    inner = list(argument(args, kwargs, 2, "sizes", ()))
    wanted = [-1] * dim + inner + [-1] * (x.ndim - dim - 1)
    ties.write(out, reshaped(ties, x, out, wanted, name))


def _squeeze(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    """Dimensions of size 1 come or go; they have no layouts, unless a number of channels is 1."""
    ties.write(out, reshaped(ties, args[0], out, None, name))


def _expand(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    x = args[0]
    wanted = list(out.shape) if name == "expand_as" else _sizes(args, kwargs, "size")
    new = out.ndim - x.ndim
    kept: Layouts = {}
    for dim, layout in ties.read(x).items():
        size = wanted[dim + new]
        if isinstance(size, Dim) and size.exact:
            ties.tie(size.layout, layout, name)
        elif size != -1:
            ties.fix(layout, f"{name} has its size as a number, wanted -1")
        kept[dim + new] = layout
    ties.write(out, kept)


def _pad(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    """Padding of the channels themselves puts constant ones beside them."""
    x = tensors_in((args, kwargs))[0]
    pads = list(argument(args, kwargs, 1, "pad", ()))
    layouts: Layouts = {}
    for dim, layout in ties.read(x).items():
        at = 2 * (x.ndim - 1 - dim)
        before, after = pads[at : at + 2] if at + 1 < len(pads) else (0, 0)
        if min(before, after) < 0:
            ties.fix(layout, f"{name} cuts its channels")
        else:
            head, tail = (constant(n) if n else () for n in (before, after))
            layouts[dim] = (*head, *layout, *tail)
    ties.write(out, layouts)


def _chunk(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    """Equal parts of one width: each of them is a width, the same for all."""
    x = args[0]
    dim = argument(args, kwargs, 2, "dim", 0) % x.ndim
    layouts = dict(ties.read(x))
    cut = layouts.pop(dim, None)
    if cut is not None:
        equal = name == "chunk" and len({part.shape for part in out}) == 1
        piece = ties.pieces(cut, len(out), name) if equal else None
        if piece is not None:
            layouts[dim] = piece
        else:
            ties.fix(cut, f"{name} cuts its channels")
    for part in out:
        ties.write(part, dict(layouts))


def _rearranged(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    """Rolled or flipped along some dimensions."""
    x = args[0]
    dims = dims_of(argument(args, kwargs, 2 if name == "roll" else 1, "dims", None), x.ndim)
    kept = [dim for dim in range(x.ndim) if dims is not None and dim not in dims]
    fix_others(ties, x, kept, f"{name} changes the order of its channels")
    ties.write(out, dict(ties.read(x)))


def _unbind(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    x = args[0]
    dim = argument(args, kwargs, 1, "dim", 0) % x.ndim
    layouts = {at - (at > dim): layout for at, layout in ties.read(x).items() if at != dim}
    fix_others(ties, x, [at for at in ties.read(x) if at != dim], f"{name} takes its channels one by one")
    for part in out:
        ties.write(part, dict(layouts))


def _getitem(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    x, index = args
    if not isinstance(x, torch.Tensor):
        return None
    index = index if isinstance(index, tuple) else (index,)
    if not all(i is None or i is Ellipsis or isinstance(i, (int, slice)) for i in index):
        return unknown(ties, "indexing", args, kwargs, out)
    used = sum(i is not None and i is not Ellipsis for i in index)
    if Ellipsis not in index:
        index = (*index, Ellipsis)
    layouts: Layouts = {}
    old = new = 0
    for i in index:
        span = x.ndim - used if i is Ellipsis else 1
        if i is None:
            new += 1
            continue
        if isinstance(i, int):
            _drop(ties, x, old)
        elif i is Ellipsis or i == slice(None):
            layouts |= {new + k: ties.read(x)[old + k] for k in range(span) if old + k in ties.read(x)}
            new += span
        else:
            _drop(ties, x, old)
            new += 1
        old += span
    return ties.write(out, layouts)


def _drop(ties: Ties, x: torch.Tensor, dim: int) -> None:
    if dim in ties.read(x):
        ties.fix(ties.read(x)[dim], "indexing takes some of its channels")


MOVEMENT: dict[str, Rule] = {
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "t", "T", "mT"), _transpose),
    **dict.fromkeys(("view", "reshape"), _view),
    **dict.fromkeys(("flatten", "ravel"), _flatten),
    **dict.fromkeys(("squeeze", "unsqueeze"), _squeeze),
    **dict.fromkeys(("expand", "expand_as"), _expand),
    **dict.fromkeys(("chunk", "split"), _chunk),
    **dict.fromkeys(("roll", "flip"), _rearranged),
    "getitem": _getitem,
    "pad": _pad,
    "permute": _permute,
    "unbind": _unbind,
    "unflatten": _unflatten,
}
"""By name."""
