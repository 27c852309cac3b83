"""Apply to each function call of a forward pass the rule that says what the function does to channels.

A function without a rule fixes the widths of the tensors that it takes, so that these stay as they were.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mutators.elastic.conversion.calls import Call, Rule, fix_all, fix_unknown, fixed_layout, resolve_dims, tensors_in
from mutators.elastic.conversion.movement import MOVEMENT
from mutators.elastic.conversion.ties import Layout, Layouts, Ties

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


def _broadcast(ties: Ties, operands: Sequence[torch.Tensor], shape: Sequence[int], name: str) -> Layouts:
    """Return the layouts of a result of broadcasting; operands of one size are tied."""
    result: Layouts = {}
    for dim, size in enumerate(shape):
        places = [(x, dim - len(shape) + x.ndim) for x in operands if size != 1]
        given = [ties.read(x).get(at) for x, at in places if at >= 0 and x.shape[at] != 1]
        layouts = [layout for layout in given if layout is not None]
        for layout in layouts[1:]:
            ties.tie(layouts[0], layout, name)
        if layouts:
            result[dim] = layouts[0]
            if len(layouts) < len(given):
                why = f"{name} joins it with something of a fixed size, such as a parameter or the model's input"
                ties.fix(layouts[0], why)
    return result


def _pointwise(call: Call) -> None:
    call.write(_broadcast(call.ties, call.tensors, call.out.shape, call.name))


def _pool(call: Call) -> None:
    results, sizes = tensors_in(call.out), call.x.shape
    kept = {dim: layout for dim, layout in call.layouts.items() if sizes[dim] == results[0].shape[dim] and dim < 2}
    call.fix_others(kept, f"{call.name} changes its dimension")
    for result in results:
        call.ties.write(result, dict(kept))


def _reduce(call: Call) -> None:
    x, results = call.x, tensors_in(call.out)
    if len(call.tensors) > 1:
        return _pointwise(call)
    dims = resolve_dims(call.argument(2 if call.name == "norm" else 1, "dim", call.kwargs.get("axis")), x.ndim)
    dropped = set(range(x.ndim)) if dims is None else dims
    kept = {dim: layout for dim, layout in call.layouts.items() if dim not in dropped}
    call.fix_others(kept, f"{call.name} runs over its channels")
    for result in results:
        gone = dropped if result.ndim < x.ndim else ()
        call.ties.write(result, {dim - sum(d < dim for d in gone): layout for dim, layout in kept.items()})
    return None


def _normalise(call: Call) -> None:
    """Forbid channels to grow under softmax and the like: new silent ones would change every result."""
    dim = call.argument(2 if call.name == "normalize" else 1, "dim", 1 if call.name == "normalize" else None)
    for at, layout in call.layouts.items():
        if dim is None or at == dim % call.x.ndim:
            call.ties.stiffen(layout, f"{call.name} runs over all channels, so that new ones would change the result")
    call.write(dict(call.layouts))


def _concatenate(call: Call) -> None:
    parts = list(call.argument(0, "tensors", ()))
    dim = call.argument(1, "dim", call.kwargs.get("axis", 0)) % call.out.ndim
    parts = [x for x in parts if x.ndim == call.out.ndim and x.shape[dim]]  # torch skips empty ones
    others = [x.narrow(dim, 0, 1) for x in parts]  # of size 1 there, and so not tied
    for x, other in zip(parts, others, strict=True):
        call.ties.write(other, {at: layout for at, layout in call.ties.read(x).items() if at != dim})
    shape = [1 if at == dim else size for at, size in enumerate(call.out.shape)]
    layouts = _broadcast(call.ties, others, shape, call.name)
    segments = [call.ties.read(x).get(dim) or fixed_layout(x.shape[dim]) for x in parts]
    if any(dim in call.ties.read(x) for x in parts):
        layouts[dim] = tuple(segment for layout in segments for segment in layout)
    call.write(layouts)


def _stack(call: Call) -> None:
    parts = list(call.argument(0, "tensors", ()))
    dim = call.argument(1, "dim", 0) % call.out.ndim
    layouts = _broadcast(call.ties, parts, parts[0].shape, call.name)
    call.write({at + (at >= dim): layout for at, layout in layouts.items()})


def _matmul(call: Call) -> None:
    a, b = call.tensors
    if a.ndim < 2 or b.ndim < 2:
        return fix_unknown(call)
    left, right = call.ties.read(a), call.ties.read(b)
    _contract(call.ties, left.get(a.ndim - 1), right.get(b.ndim - 2), call.name)
    return call.write(_batch_layouts(call, a, b) | _last_layouts(call, a, b))


def _contract(ties: Ties, one: Layout | None, other: Layout | None, name: str) -> None:
    known = [layout for layout in (one, other) if layout is not None]
    if len(known) == 2:
        ties.tie(known[0], known[1], name)
    for layout in known:
        ties.stiffen(layout, f"{name} sums over its channels, so that new ones would change the result")
        if len(known) == 1:
            ties.fix(layout, f"{name} sums it up with something whose size is fixed")


def _batch_layouts(call: Call, a: torch.Tensor, b: torch.Tensor) -> Layouts:
    """Return the layouts of the leading dimensions of a product of matrices."""
    first = [x.select(-1, 0).select(-1, 0) for x in (a, b)]
    for x, small in zip((a, b), first, strict=True):
        call.ties.write(small, {dim: layout for dim, layout in call.ties.read(x).items() if dim < x.ndim - 2})
    return _broadcast(call.ties, first, call.out.shape[:-2], call.name)


def _last_layouts(call: Call, a: torch.Tensor, b: torch.Tensor) -> Layouts:
    """Return the layouts of a product's rows, which are those of ``a``, and columns, which are those of ``b``."""
    found = {-2: call.ties.read(a).get(a.ndim - 2), -1: call.ties.read(b).get(b.ndim - 1)}
    return {call.out.ndim + dim: layout for dim, layout in found.items() if layout is not None}


def _attend(call: Call) -> None:
    q, k, v = (call.argument(i, n, None) for i, n in enumerate(("query", "key", "value")))
    _contract(call.ties, call.ties.read(q).get(q.ndim - 1), call.ties.read(k).get(k.ndim - 1), call.name)
    _contract(call.ties, call.ties.read(k).get(k.ndim - 2), call.ties.read(v).get(v.ndim - 2), call.name)
    fix_all(call.ties, tensors_in(call.argument(3, "attn_mask", None)), f"it is a mask of {call.name}")
    call.write(_batch_layouts(call, q, v) | _batch_layouts(call, q, k) | _last_layouts(call, q, v))


def _prelu(call: Call) -> None:
    if call.args[1].numel() == 1:
        call.write(dict(call.layouts))
    else:
        fix_unknown(call)


RULES: dict[str, Rule] = {
    **MOVEMENT,
    **dict.fromkeys(_POINTWISE.split(), _pointwise),
    **dict.fromkeys(_POOLING.split(), _pool),
    **dict.fromkeys(_REDUCING.split(), _reduce),
    **dict.fromkeys(("softmax", "log_softmax", "softmin", "normalize"), _normalise),
    **dict.fromkeys(("cat", "concat", "concatenate"), _concatenate),
    **dict.fromkeys(("matmul", "bmm"), _matmul),
    # A new tensor takes only type and device from another: it has no layouts.
    **dict.fromkeys(("new_empty", "new_full", "new_ones", "new_tensor", "new_zeros"), lambda call: call.write({})),
    "prelu": _prelu,
    "scaled_dot_product_attention": _attend,
    "stack": _stack,
}
"""Rules by the function's name."""
