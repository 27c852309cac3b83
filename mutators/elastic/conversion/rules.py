"""What the functions of a forward pass do to the channels: one rule for each kind of function, by the function's name.

A name without a rule fixes the widths of the tensors that it takes, so that what is not understood stays as it was.
"""

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
    fix_all,
    fix_others,
    tensors_in,
    unknown,
)
from mutators.elastic.conversion.movement import MOVEMENT
from mutators.elastic.conversion.ties import Layout, Layouts, Ties, tied

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
    fix_others(ties, x, kept, f"{name} changes its dimension")
    for result in results:
        ties.write(result, dict(kept))


def _reducing(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    x, results = tensors_in((args, kwargs))[0], tensors_in(out)
    if len(tensors_in((args, kwargs))) > 1:
        return _pointwise(ties, name, args, kwargs, out)
    dims = dims_of(argument(args, kwargs, 2 if name == "norm" else 1, "dim", kwargs.get("axis")), x.ndim)
    dropped = set(range(x.ndim)) if dims is None else dims
    kept = {dim: layout for dim, layout in ties.read(x).items() if dim not in dropped}
    fix_others(ties, x, kept, f"{name} runs over its channels")
    for result in results:
        if result.ndim < x.ndim:
            ties.write(result, {dim - sum(d < dim for d in dropped): layout for dim, layout in kept.items()})
        else:
            ties.write(result, dict(kept))
    return None


def _normalising(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    """Softmax and the like: each result depends on all channels, so that silent ones would be heard."""
    x = tensors_in((args, kwargs))[0]
    dim = argument(args, kwargs, 2 if name == "normalize" else 1, "dim", 1 if name == "normalize" else None)
    for at, layout in ties.read(x).items():
        if dim is None or at == dim % x.ndim:
            ties.stiffen(layout, f"{name} runs over all channels, so that new ones would change the result")
    ties.write(out, dict(ties.read(x)))


def _concatenation(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    parts = list(argument(args, kwargs, 0, "tensors", ()))
    dim = argument(args, kwargs, 1, "dim", kwargs.get("axis", 0)) % out.ndim
    parts = [x for x in parts if x.ndim == out.ndim and x.shape[dim]]  # torch skips empty ones
    others = [x.narrow(dim, 0, 1) for x in parts]  # of size 1 there, and so not tied
    for x, other in zip(parts, others, strict=True):
        ties.write(other, {at: layout for at, layout in ties.read(x).items() if at != dim})
    shape = [1 if at == dim else size for at, size in enumerate(out.shape)]
    layouts = _broadcast(ties, others, shape, name)
    segments = [ties.read(x).get(dim) or constant(x.shape[dim]) for x in parts]
    if any(dim in ties.read(x) for x in parts):
        layouts[dim] = tuple(segment for layout in segments for segment in layout)
    ties.write(out, layouts)


def _stack(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    parts = list(argument(args, kwargs, 0, "tensors", ()))
    dim = argument(args, kwargs, 1, "dim", 0) % out.ndim
    layouts = _broadcast(ties, parts, parts[0].shape, name)
    ties.write(out, {at + (at >= dim): layout for at, layout in layouts.items()})


def _new(ties: Ties, name: str, args: Arguments, kwargs: Named, out: Any) -> None:
    """Something that takes only type and device from a tensor."""
    ties.write(out, {})


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
    q, k, v = (argument(args, kwargs, i, n, None) for i, n in enumerate(("query", "key", "value")))
    _contract(ties, ties.read(q).get(q.ndim - 1), ties.read(k).get(k.ndim - 1), name)
    _contract(ties, ties.read(k).get(k.ndim - 2), ties.read(v).get(v.ndim - 2), name)
    mask = argument(args, kwargs, 3, "attn_mask", None)
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
    **MOVEMENT,
    **dict.fromkeys(_POINTWISE.split(), _pointwise),
    **dict.fromkeys(_POOLING.split(), _pooling),
    **dict.fromkeys(_REDUCING.split(), _reducing),
    **dict.fromkeys(("softmax", "log_softmax", "softmin", "normalize"), _normalising),
    **dict.fromkeys(("cat", "concat", "concatenate"), _concatenation),
    **dict.fromkeys(("matmul", "bmm"), _matmul),
    **dict.fromkeys(("new_empty", "new_full", "new_ones", "new_tensor", "new_zeros"), _new),
    "prelu": _prelu,
    "scaled_dot_product_attention": _attention,
    "stack": _stack,
}
"""By name; see :func:`apply_rule`."""
