"""Tell by a layer's type what it does to channels, and make it elastic.

A new layer is one more line in the table ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mutators.choices.torch_private import get_parameters
from mutators.elastic.conversion.ties import Layout, Node, Ties, size_of
from mutators.elastic.layers.attention import ElasticMultiheadAttention
from mutators.elastic.layers.batchnorm import ElasticBatchNorm1d, ElasticBatchNorm2d, ElasticBatchNorm3d
from mutators.elastic.layers.conv import ElasticConv2d, ElasticConvTranspose2d
from mutators.elastic.layers.embedding import ElasticEmbedding
from mutators.elastic.layers.linear import ElasticLinear
from mutators.elastic.layers.norm import ElasticGroupNorm, ElasticInstanceNorm2d, ElasticLayerNorm
from mutators.elastic.layers.width import Channels, Width


@dataclass
class LayerUse:
    """A plain layer that a forward pass ran.

    Attributes:
        ins, outs: the layouts of input and output; None before it has run.
        own: the width that this layer decides, unless it is tied to an earlier one; norms have none.
        stays: why it is not replaced; None: it may be.
    """

    path: str
    module: nn.Module
    ins: Layout | None = None
    outs: Layout | None = None
    own: Node | None = None
    stays: str | None = None

    @property
    def decides(self) -> Layout:
        """The layout of the layer's own width, or that of its output where it has none."""
        return (self.outs or ()) if self.own is None else ((self.own, 1),)

    @property
    def width(self) -> int:
        """The size of the layer's width in the model."""
        return size_of(self.decides)


@dataclass(frozen=True)
class Kind:
    """The treatment of a type of layers.

    Attributes:
        record: records that the layer ran: (ties, use, inputs, output).
        make: makes the elastic layer: (plain layer, channels of input, of output, kernel sizes or None, own width).
        weight: whether it is a weight layer, which decides a width of its own.
    """

    record: Callable[[Ties, LayerUse, list[torch.Tensor], torch.Tensor], None]
    make: Callable[[Any, Channels | None, Channels | None, tuple[int, ...] | None, Width | None], nn.Module]
    weight: bool = True


def kind_of(module: nn.Module) -> Kind | None:
    """Return the kind of a layer, also of a subclass that only adds attributes; None: it cannot be elastic."""
    kind, base = type(module), _base_of(type(module))
    if hasattr(module, "parametrizations") and kind.__base__ is not None:
        kind = kind.__base__  # torch makes a class of its own for each; the analysis has the better reason
    return None if base is None or _own_names(kind, base) else KINDS[base]


def is_depthwise(module: nn.Module) -> bool:
    """Return whether a layer is a convolution in which each channel is a group of its own."""
    if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        return False
    return 1 < module.groups == module.in_channels == module.out_channels


def explain_no_kind(module: nn.Module) -> str:
    """Return why a module with parameters has no kind."""
    base = _base_of(type(module))
    if base is not None:
        return f"it is a {base.__name__} with its own {', '.join(_own_names(type(module), base))}"
    if type(module).__module__.startswith("torch.nn"):
        return f"there is no elastic {type(module).__name__}"
    own = [name for name, parameter in get_parameters(module).items() if parameter is not None]
    return f"the use of its {', '.join(own)} is unknown, wanted one of torch's layers that can be elastic"


def _base_of(kind: type[nn.Module]) -> type[nn.Module] | None:
    return next((base for base in KINDS if issubclass(kind, base)), None)


def _own_names(kind: type, base: type) -> tuple[str, ...]:
    """Return what a subclass adds that an elastic layer would not have."""
    harmless, calling = ("extra_repr", "reset_parameters", "_abc_impl"), ("__call__", "__getattr__", "__getattribute__")
    names = dict.fromkeys(name for cls in kind.__mro__[: kind.__mro__.index(base)] for name in vars(cls))
    return tuple(name for name in names if name in calling or not (name in harmless or name.startswith("__")))


def _join(ties: Ties, use: LayerUse, x: torch.Tensor, dim: int) -> Layout:
    """Return the layout of the input, tied over all calls of the layer."""
    layout = ties.read(x).get(dim) or ((Node(x.shape[dim], "its input has a fixed size"), 1),)
    if use.ins is None:
        use.ins = layout
    else:
        ties.tie(use.ins, layout, f"{use.path}, which runs more than once,")
    return use.ins


def _produce(use: LayerUse, size: int) -> Layout:
    if use.outs is None:
        use.own = Node(size)
        use.outs = ((use.own, 1),)
    return use.outs


def _convolution(ties: Ties, use: LayerUse, inputs: list[torch.Tensor], out: torch.Tensor) -> None:
    (x, *_), conv = inputs, use.module
    assert isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d))
    dim = x.ndim - 3
    ins = _join(ties, use, x, dim)
    for at, layout in ties.read(x).items():
        if at > dim:
            ties.fix(layout, f"{use.path} is a convolution over it")
    if is_depthwise(conv):
        use.outs = ins
    elif conv.groups > 1:
        outs = _produce(use, conv.out_channels)
        for layout in (ins, outs):
            if len(ties.parts(layout)) > 1:
                ties.fix(layout, f"{use.path} divides channels that are put together into groups")
            ties.divide(layout, conv.groups, f"{use.path} with {conv.groups} groups")
            ties.stiffen(layout, f"{use.path} has groups, whose borders would move")
    kept = {at: layout for at, layout in ties.read(x).items() if at < dim}
    ties.write(out, {**kept, dim: _produce(use, conv.out_channels)})


def _linear(ties: Ties, use: LayerUse, inputs: list[torch.Tensor], out: torch.Tensor) -> None:
    x = inputs[0]
    _join(ties, use, x, x.ndim - 1)
    assert isinstance(use.module, nn.Linear)
    ties.write(out, {**ties.read(x), x.ndim - 1: _produce(use, use.module.out_features)})


def _embedding(ties: Ties, use: LayerUse, inputs: list[torch.Tensor], out: torch.Tensor) -> None:
    assert isinstance(use.module, nn.Embedding)
    if use.module.max_norm is not None:
        use.stays = "it has max_norm"
    use.ins = ()
    ties.write(out, {out.ndim - 1: _produce(use, use.module.embedding_dim)})


def _norm(ties: Ties, use: LayerUse, inputs: list[torch.Tensor], out: torch.Tensor) -> None:
    """Record a batch or instance norm, which treats each channel by itself."""
    x = inputs[0]
    single = isinstance(use.module, nn.InstanceNorm2d) and x.ndim == 3  # an image without a batch
    use.outs = _join(ties, use, x, 0 if single else 1)
    if isinstance(use.module, nn.InstanceNorm2d) and use.module.track_running_stats:
        use.stays = "it tracks statistics"
    ties.write(out, dict(ties.read(x)))


def _group_norm(ties: Ties, use: LayerUse, inputs: list[torch.Tensor], out: torch.Tensor) -> None:
    _norm(ties, use, inputs, out)
    assert isinstance(use.module, nn.GroupNorm)
    assert use.outs is not None
    size = use.module.num_channels // use.module.num_groups
    ties.divide(use.outs, size, f"{use.path} with {size} channels a group")


def _layer_norm(ties: Ties, use: LayerUse, inputs: list[torch.Tensor], out: torch.Tensor) -> None:
    x = inputs[0]
    assert isinstance(use.module, nn.LayerNorm)
    if len(use.module.normalized_shape) > 1:
        use.stays = f"it is over {len(use.module.normalized_shape)} dimensions"
        for layout in ties.read(x).values():
            ties.fix(layout, f"{use.path} is a norm over more than one dimension")
    use.outs = _join(ties, use, x, x.ndim - 1)
    ties.stiffen(use.outs, f"{use.path} is a norm over all channels, so that new ones would change the result")
    ties.write(out, dict(ties.read(x)))


def _attention(ties: Ties, use: LayerUse, inputs: list[torch.Tensor], out: torch.Tensor) -> None:
    """Record an attention: input and output have one width; the heads are the layer's own."""
    attention = use.module
    assert isinstance(attention, nn.MultiheadAttention)
    layouts = [_join(ties, use, x, x.ndim - 1) for x in inputs[:3]]
    use.own, use.outs = use.own or Node(attention.num_heads), layouts[0]
    ties.stiffen(((use.own, 1), *use.outs), f"{use.path} is an attention")
    if attention.bias_k is not None or attention.add_zero_attn or not attention._qkv_same_embed_dim:
        use.stays = "it has add_bias_kv or add_zero_attn, or keys or values of another width"
    results = {dim: layout for dim, layout in ties.read(inputs[0]).items() if dim < out.ndim - 1}
    ties.write(out, {**results, out.ndim - 1: use.outs})


KINDS: dict[type[nn.Module], Kind] = {
    nn.Conv2d: Kind(_convolution, lambda m, i, o, k, _: ElasticConv2d.of(m, i, o, k)),
    nn.ConvTranspose2d: Kind(_convolution, lambda m, i, o, k, _: ElasticConvTranspose2d.of(m, i, o, k)),
    nn.Linear: Kind(_linear, lambda m, i, o, _k, _w: ElasticLinear.of(m, i, o)),
    nn.Embedding: Kind(_embedding, lambda m, _i, o, _k, _w: ElasticEmbedding.of(m, o)),
    nn.MultiheadAttention: Kind(_attention, lambda m, _i, o, _k, w: ElasticMultiheadAttention.of(m, w, o)),
    nn.BatchNorm1d: Kind(_norm, lambda m, i, _o, _k, _w: ElasticBatchNorm1d.of(m, i), weight=False),
    nn.BatchNorm2d: Kind(_norm, lambda m, i, _o, _k, _w: ElasticBatchNorm2d.of(m, i), weight=False),
    nn.BatchNorm3d: Kind(_norm, lambda m, i, _o, _k, _w: ElasticBatchNorm3d.of(m, i), weight=False),
    nn.InstanceNorm2d: Kind(_norm, lambda m, i, _o, _k, _w: ElasticInstanceNorm2d.of(m, i), weight=False),
    nn.GroupNorm: Kind(_group_norm, lambda m, i, _o, _k, _w: ElasticGroupNorm.of(m, i), weight=False),
    nn.LayerNorm: Kind(_layer_norm, lambda m, i, _o, _k, _w: ElasticLayerNorm.of(m, i), weight=False),
}
"""Kinds by type of the plain layer."""
