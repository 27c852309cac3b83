"""What the functions of a forward pass do to the channels: one rule for each kind of function, by the function's name.

A name without a rule fixes the widths of the tensors that it takes, so that what is not understood stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from mutators.elastic.conversion.shapes import reshaped
from mutators.elastic.conversion.ties import Dim, Layout, Layouts, Node, Ties, tied

Arguments = tuple[Any, ...]
Named = Mapping[str, Any]
Rule = Callable[[Ties, str, Arguments, Named, Any], None]

_POINTWISE = """
    abs add addcdiv addcmul alpha_dropout bernoulli bfloat16 ceil celu clamp clamp_max clamp_min clip clone contiguous
    copy cos cpu data detach div double dropout dropout1d dropout2d dropout3d elu empty_like eq erf exp expm1
    feature_alpha_dropout feature_dropout float floor full_like ge gelu gt half hardshrink hardsigmoid hardswish
    hardtanh iadd imul isub itruediv le leaky_relu lerp log log1p logical_and logical_not logical_or logsigmoid lt
    masked_fill maximum minimum mish mul multiply ne neg negative ones_like pow rand_like randn_like reciprocal relu
    relu6 requires_grad round rrelu rsqrt rsub selu sigmoid sign silu sin softplus softshrink softsign sqrt square sub
    subtract tanh tanhshrink threshold to truediv rtruediv radd rmul true_divide type type_as where zeros_like
"""
_POOLING = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d interpolate lp_pool1d lp_pool2d max_pool1d max_pool2d
    max_pool3d upsample
"""
_REDUCING = "all amax amin any argmax argmin logsumexp max mean median min norm prod std sum var"


def apply_rule(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    """Take down what one function call did.

    Args:
        name: of the function or method, without the underscores of operators and in-place variants.
        out: what it returned.
    """
    if tensors_in((args, kwargs)) and tensors_in(out):
        RULES.get(name, unknown)(ties, name, args, kwargs, out)


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


def _broadcast(ties: Ties, operands: Sequence[torch.Tensor], shape: Sequence[int], name: str) -> Layouts:
    """Layouts of a result of broadcasting: operands of one size are tied."""
    result: Layouts = {}
    for dim, size in enumerate(shape):
        layouts: list[Layout] = []
        bare = False
        for x in operands:
            at = dim - (len(shape) - x.ndim)
            if at < 0 or size == 1 or x.shape[at] == 1:
                continue
            layout = ties.read(x).get(at)
            bare = bare or layout is None
            layouts += [] if layout is None else [layout]
        common = tied(ties, layouts, name)
        if common is not None:
            if bare:
                ties.fix(
                    common, f"{name} joins it with something of a fixed size, such as a parameter or the model's input"
                )
            result[dim] = common
    return result


def _pointwise(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    ties.write(out, _broadcast(ties, tensors_in((args, kwargs)), out.shape, name))


def _pooling(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    (x, *_), results = tensors_in((args, kwargs)), tensors_in(out)
    kept = {dim: layout for dim, layout in ties.read(x).items() if x.shape[dim] == results[0].shape[dim] and dim < 2}
    _fix_others(ties, x, kept, f"{name} changes its dimension")
    for result in results:
        ties.write(result, dict(kept))


def _fix_others(ties: Ties, x: torch.Tensor, kept: Iterable[int], why: str) -> None:
    for dim, layout in ties.read(x).items():
        if dim not in kept:
            ties.fix(layout, why)


def _reducing(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    x, results = tensors_in((args, kwargs))[0], tensors_in(out)
    if len(tensors_in((args, kwargs))) > 1:
        return _pointwise(ties, name, args, kwargs, out)
    dims = _dims(_argument(args, kwargs, 2 if name == "norm" else 1, "dim", kwargs.get("axis")), x.ndim)
    dropped = set(range(x.ndim)) if dims is None else dims
    kept = {dim: layout for dim, layout in ties.read(x).items() if dim not in dropped}
    _fix_others(ties, x, kept, f"{name} runs over its channels")
    for result in results:
        if result.ndim < x.ndim:
            ties.write(result, {dim - sum(d < dim for d in dropped): layout for dim, layout in kept.items()})
        else:
            ties.write(result, dict(kept))
    return None


def _argument(args: Arguments, kwargs: Named, at: int, name: str, default: Any) -> Any:
    return kwargs.get(name, args[at] if len(args) > at else default)


def _dims(dims: Any, ndim: int) -> set[int] | None:
    if dims is None:
        return None
    return {dim % ndim for dim in ([dims] if isinstance(dims, int) else dims)}


def _normalising(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    """Softmax and the like: each result depends on all channels, so that silent ones would be heard."""
    x = tensors_in((args, kwargs))[0]
    dim = _argument(args, kwargs, 2 if name == "normalize" else 1, "dim", 1 if name == "normalize" else None)
    for at, layout in ties.read(x).items():
        if dim is None or at == dim % x.ndim:
            ties.stiffen(layout, f"{name} runs over all channels, so that new ones would change the result")
    ties.write(out, dict(ties.read(x)))


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
        a = _argument(args, kwargs, 1, "dim0", -2) if name != "mT" else -2
        b = _argument(args, kwargs, 2, "dim1", -1) if name != "mT" else -1
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
    dim = _argument(args, kwargs, 1, "dim", 0) % x.ndim
    inner = list(_argument(args, kwargs, 2, "sizes", ()))
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


def _concatenation(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    parts = list(_argument(args, kwargs, 0, "tensors", ()))
    dim = _argument(args, kwargs, 1, "dim", kwargs.get("axis", 0)) % out.ndim
    parts = [x for x in parts if x.ndim == out.ndim and x.shape[dim]]  # torch skips empty ones
    others = [x.narrow(dim, 0, 1) for x in parts]  # of size 1 there, and so not tied
    for x, other in zip(parts, others, strict=True):
        ties.write(other, {at: layout for at, layout in ties.read(x).items() if at != dim})
    shape = [1 if at == dim else size for at, size in enumerate(out.shape)]
    layouts = _broadcast(ties, others, shape, name)
    segments = [ties.read(x).get(dim) or _constant(x.shape[dim]) for x in parts]
    if any(dim in ties.read(x) for x in parts):
        layouts[dim] = tuple(segment for layout in segments for segment in layout)
    ties.write(out, layouts)


def _constant(size: int) -> Layout:
    return ((Node(size, "its size is fixed"), 1),)


def _stack(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    parts = list(_argument(args, kwargs, 0, "tensors", ()))
    dim = _argument(args, kwargs, 1, "dim", 0) % out.ndim
    layouts = _broadcast(ties, parts, parts[0].shape, name)
    ties.write(out, {at + (at >= dim): layout for at, layout in layouts.items()})


def _pad(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    """Padding of the channels themselves puts constant ones beside them."""
    x = tensors_in((args, kwargs))[0]
    pads = list(_argument(args, kwargs, 1, "pad", ()))
    layouts: Layouts = {}
    for dim, layout in ties.read(x).items():
        at = 2 * (x.ndim - 1 - dim)
        before, after = pads[at : at + 2] if at + 1 < len(pads) else (0, 0)
        if min(before, after) < 0:
            ties.fix(layout, f"{name} cuts its channels")
        else:
            head, tail = (_constant(n) if n else () for n in (before, after))
            layouts[dim] = (*head, *layout, *tail)
    ties.write(out, layouts)


def _chunk(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    """Equal parts of one width: each of them is a width, the same for all."""
    x = args[0]
    dim = _argument(args, kwargs, 2, "dim", 0) % x.ndim
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
    dims = _dims(_argument(args, kwargs, 2 if name == "roll" else 1, "dims", None), x.ndim)
    kept = [dim for dim in range(x.ndim) if dims is not None and dim not in dims]
    _fix_others(ties, x, kept, f"{name} changes the order of its channels")
    ties.write(out, dict(ties.read(x)))


def _new(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    """Something that takes only type and device from a tensor."""
    ties.write(out, {})


def _unbind(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    x = args[0]
    dim = _argument(args, kwargs, 1, "dim", 0) % x.ndim
    layouts = {at - (at > dim): layout for at, layout in ties.read(x).items() if at != dim}
    _fix_others(ties, x, [at for at in ties.read(x) if at != dim], f"{name} takes its channels one by one")
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


def _matmul(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    a, b = tensors_in((args, kwargs))
    if a.ndim < 2 or b.ndim < 2:
        return unknown(ties, name, args, kwargs, out)
    left, right = ties.read(a), ties.read(b)
    _contract(ties, left.get(a.ndim - 1), right.get(b.ndim - 2), name)
    layouts = _batched(ties, a, b, out, name)
    for dim, layout in ((out.ndim - 2, left.get(a.ndim - 2)), (out.ndim - 1, right.get(b.ndim - 1))):
        if layout is not None:
            layouts[dim] = layout
    return ties.write(out, layouts)


def _contract(ties: Ties, one: Layout | None, other: Layout | None, name: str) -> None:
    known = [layout for layout in (one, other) if layout is not None]
    if len(known) == 2:
        ties.tie(known[0], known[1], name)
    for layout in known:
        ties.stiffen(layout, f"{name} sums over its channels, so that new ones would change the result")
        if len(known) == 1:
            ties.fix(layout, f"{name} sums it up with something whose size is fixed")


def _batched(ties: Ties, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, name: str) -> Layouts:
    """Layouts of the leading dimensions of a product of matrices."""
    first = [x.select(-1, 0).select(-1, 0) for x in (a, b)]
    for x, small in zip((a, b), first, strict=True):
        ties.write(small, {dim: layout for dim, layout in ties.read(x).items() if dim < x.ndim - 2})
    return _broadcast(ties, first, out.shape[:-2], name)


def _attention(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    q, k, v = (_argument(args, kwargs, i, n, None) for i, n in enumerate(("query", "key", "value")))
    _contract(ties, ties.read(q).get(q.ndim - 1), ties.read(k).get(k.ndim - 1), name)
    _contract(ties, ties.read(k).get(k.ndim - 2), ties.read(v).get(v.ndim - 2), name)
    mask = _argument(args, kwargs, 3, "attn_mask", None)
    if mask is not None:
        fix_all(ties, [mask], f"it is a mask of {name}")
    layouts = _batched(ties, q, v, out, name) | _batched(ties, q, k, out, name)
    if out.ndim - 2 in ties.read(q):
        layouts[out.ndim - 2] = ties.read(q)[out.ndim - 2]
    if out.ndim - 1 in ties.read(v):
        layouts[out.ndim - 1] = ties.read(v)[out.ndim - 1]
    ties.write(out, layouts)


def _prelu(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    if args[1].numel() == 1:
        ties.write(out, dict(ties.read(args[0])))
    else:
        unknown(ties, name, args, kwargs, out)


RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE.split(), _pointwise),
    **dict.fromkeys(_POOLING.split(), _pooling),
    **dict.fromkeys(_REDUCING.split(), _reducing),
    **dict.fromkeys(("softmax", "log_softmax", "softmin", "normalize"), _normalising),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "t", "T", "mT"), _transpose),
    **dict.fromkeys(("view", "reshape"), _view),
    **dict.fromkeys(("flatten", "ravel"), _flatten),
    **dict.fromkeys(("squeeze", "unsqueeze"), _squeeze),
    **dict.fromkeys(("expand", "expand_as"), _expand),
    **dict.fromkeys(("cat", "concat", "concatenate"), _concatenation),
    **dict.fromkeys(("chunk", "split"), _chunk),
    **dict.fromkeys(("matmul", "bmm"), _matmul),
    **dict.fromkeys(("roll", "flip"), _rearranged),
    **dict.fromkeys(("new_empty", "new_full", "new_ones", "new_tensor", "new_zeros"), _new),
    "permute": _permute,
    "unflatten": _unflatten,
    "stack": _stack,
    "pad": _pad,
    "unbind": _unbind,
    "getitem": _getitem,
    "scaled_dot_product_attention": _attention,
    "prelu": _prelu,
}
"""By name; see :func:`apply_rule`."""
