"""Which tensors of a network a width cuts, and whether its channels may change places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn

from mutators.elastic.layers.attention import ElasticMultiheadAttention
from mutators.elastic.layers.batchnorm import ElasticBatchNorm
from mutators.elastic.layers.convolution import ElasticConvolution
from mutators.elastic.layers.layer import Axis, Elastic
from mutators.elastic.layers.linear import ElasticLinear
from mutators.elastic.layers.norm import ElasticGroupNorm, ElasticNorm
from mutators.elastic.layers.width import Channels, Width


class Use(NamedTuple):
    """A dimension of a tensor that widths cut.

    Attributes:
        path: of the layer.
        layer: that the tensor belongs to.
        axis: the dimension and its layout.
        tensor: a parameter or a buffer.
    """

    path: str
    layer: Elastic
    axis: Axis
    tensor: torch.Tensor

    @property
    def widths(self) -> list[Width]:
        """Of the layout, in order."""
        return [width for width, _ in self.axis.channels.segments]

    @property
    def writes(self) -> bool:
        """Whether channels come into being here; vectors and depthwise filters only go along with them."""
        return not self.axis.reads and self.tensor.dim() > 1 and not getattr(self.layer, "depthwise", False)

    @property
    def aside(self) -> bool:
        """Whether the layer is none of the network's own, as a distillation's mapping: it follows and counts not."""
        return getattr(self.layer, "aside", False)

    def __str__(self) -> str:
        return f"dimension {self.axis.dim} of {self.path}.{self.axis.name}"


def uses_of(net: nn.Module) -> list[Use]:
    """Every dimension of every tensor of the elastic layers that has a known layout."""
    return [
        Use(path, layer, axis, getattr(layer, axis.name))
        for path, layer in net.named_modules()
        if isinstance(layer, Elastic)
        for axis in layer.axes()
    ]


def widths_of(uses: Sequence[Use]) -> list[Width]:
    """The widths, each once."""
    return list(dict.fromkeys(width for use in uses for width in use.widths))


def per_channel(values: torch.Tensor, channels: Channels, width: Width) -> torch.Tensor:
    """(channels.full,) to (width.full,): for each channel of one of the widths the sum of what stands for it."""
    parts = torch.split(values, [segment.full * unit for segment, unit in channels.segments])
    sums = [
        part.view(segment.full, unit).sum(1)
        for part, (segment, unit) in zip(parts, channels.segments, strict=True)
        if segment is width
    ]
    return torch.stack(sums).sum(0)


def unsortable(net: nn.Module, uses: Sequence[Use]) -> dict[Width, str]:
    """The elastic widths whose channels must not change places, with the reason."""
    found: dict[Width, str] = {}
    for path, layer in net.named_modules():
        if isinstance(layer, Elastic):
            for width in _in_groups(layer):
                found.setdefault(width, f"{path} has groups of its channels")
            for width in _as_wide(uses, _open_size(layer)):
                found.setdefault(width, f"{path} takes as many channels, and no layout says which: give it one")
    for one, other in _shared(uses):
        for width in (*one.widths, *other.widths):
            found.setdefault(width, f"{one} is {other}, too, under another layout")
    for width in widths_of(uses):
        mine = [use for use in uses if width in use.widths]
        if not any(use.writes for use in mine):
            found.setdefault(width, f"no layer of a known layout writes it; it is in {mine[0]}")
        elif not any(use.axis.reads and not use.aside for use in mine):
            found.setdefault(width, f"no layer of a known layout reads it; it is in {mine[0]}")
    return {width: reason for width, reason in found.items() if len(width.offered) > 1}


def _in_groups(layer: Elastic) -> Iterator[Width]:
    grouped = isinstance(layer, ElasticConvolution) and layer.groups > 1 and not layer.depthwise
    if grouped or (isinstance(layer, ElasticGroupNorm) and layer.group_size > 1):
        layouts = (value for value in vars(layer).values() if isinstance(value, Channels))
        yield from (width for channels in layouts for width, _ in channels.segments)


def _open_size(layer: Elastic) -> int | None:
    """The input's channels at most, of a layer that takes as many as come; None: its layout is known."""
    if isinstance(layer, ElasticConvolution) and layer.inputs is None:
        return layer.weight.shape[0] if layer.depthwise else layer.weight.shape[layer.IN] * _per_group(layer)
    if isinstance(layer, ElasticLinear) and layer.inputs is None:
        return layer.weight.shape[1]
    if isinstance(layer, ElasticBatchNorm) and layer.channels is None:
        return layer.full
    return layer.full if isinstance(layer, ElasticNorm) and layer.channels is None else None


def _per_group(layer: ElasticConvolution) -> int:
    return layer.groups if layer.IN == 1 else 1


def _as_wide(uses: Sequence[Use], size: int | None) -> Iterator[Width]:
    """The widths in layouts of this size; heads are not among them, which no layer sees from outside."""
    heads = {width for use in uses if isinstance(use.layer, ElasticMultiheadAttention) for width in _projected(use)}
    for use in uses:
        if use.axis.channels.full == size:
            yield from (width for width in use.widths if width not in heads)


def _projected(use: Use) -> list[Width]:
    return [] if use.axis.reads else use.widths


def _shared(uses: Sequence[Use]) -> Iterator[tuple[Use, Use]]:
    """Pairs of uses of one tensor that do not agree about its layout."""
    first: dict[tuple[int, int], Use] = {}
    for use in uses:
        other = first.setdefault((id(use.tensor), use.axis.dim), use)
        if _identity(other.axis.channels) != _identity(use.axis.channels):
            yield other, use


def _identity(channels: Channels) -> list[tuple[int, int]]:
    """What tells layouts apart; fixed widths are alike if they have the same size."""
    return [(width.full if len(width.offered) == 1 else -id(width), unit) for width, unit in channels.segments]
