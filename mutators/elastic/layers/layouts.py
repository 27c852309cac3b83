"""Find the tensors of a network that a width cuts, and whether its channels may be sorted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn

from mutators.elastic.layers.attention import ElasticMultiheadAttention
from mutators.elastic.layers.convolution import ElasticConvolution
from mutators.elastic.layers.layer import Axis, Elastic
from mutators.elastic.layers.linear import ElasticLinear
from mutators.elastic.layers.norm import ElasticGroupNorm, ElasticNorm
from mutators.elastic.layers.width import Channels, Width


class Use(NamedTuple):
    """A dimension of a layer's parameter or buffer that widths cut, and its layout."""

    path: str
    layer: Elastic
    axis: Axis
    tensor: torch.Tensor

    @property
    def widths(self) -> list[Width]:
        """The widths of the layout, in order."""
        return [width for width, _ in self.axis.channels.segments]

    @property
    def writes(self) -> bool:
        """Tell if the tensor produces the channels; vectors and depthwise filters only follow them."""
        return not self.axis.reads and self.tensor.dim() > 1 and not getattr(self.layer, "depthwise", False)

    @property
    def aside(self) -> bool:
        """Tell if the layer is no part of the network, such as a mapping of a distillation, which is sorted with it."""
        return getattr(self.layer, "aside", False)

    def __str__(self) -> str:
        return f"dimension {self.axis.dim} of {self.path}.{self.axis.name}"


def uses_of(net: nn.Module) -> list[Use]:
    """Return the dimensions with a known layout of all tensors of elastic layers."""
    return [
        Use(path, layer, axis, getattr(layer, axis.name))
        for path, layer in net.named_modules()
        if isinstance(layer, Elastic)
        for axis in layer.axes()
    ]


def widths_of(uses: Sequence[Use]) -> list[Width]:
    """Return the widths, each once."""
    return list(dict.fromkeys(width for use in uses for width in use.widths))


def per_channel(values: torch.Tensor, channels: Channels, width: Width) -> torch.Tensor:
    """Sum (channels.full,) values over the features of each channel of a width. Returns: (width.full,)."""
    parts = torch.split(values, [segment.full * unit for segment, unit in channels.segments])
    sums = [
        part.view(segment.full, unit).sum(1)
        for part, (segment, unit) in zip(parts, channels.segments, strict=True)
        if segment is width
    ]
    return torch.stack(sums).sum(0)


def find_unsortable(net: nn.Module, uses: Sequence[Use]) -> dict[Width, str]:
    """Return the elastic widths whose channels must not be sorted, with the reason."""
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
        yield from (width for channels in layer.find_layouts() for width, _ in channels.segments)


def _open_size(layer: Elastic) -> int | None:
    """Return the largest number of channels of an input without a known layout; None: the layout is known."""
    if isinstance(layer, (ElasticConvolution, ElasticLinear)) and layer.inputs is None:
        return layer.in_channels if isinstance(layer, ElasticConvolution) else layer.in_features
    return layer.full if isinstance(layer, ElasticNorm) and layer.channels is None else None


def _as_wide(uses: Sequence[Use], size: int | None) -> Iterator[Width]:
    """Yield the widths in layouts of this size, but for heads, which no other layer reads."""
    projections = [use for use in uses if isinstance(use.layer, ElasticMultiheadAttention) and not use.axis.reads]
    heads = {width for use in projections for width in use.widths}
    for use in uses:
        if use.axis.channels.full == size:
            yield from (width for width in use.widths if width not in heads)


def _shared(uses: Sequence[Use]) -> Iterator[tuple[Use, Use]]:
    """Yield pairs of uses of one tensor with different layouts."""
    first: dict[tuple[int, int], Use] = {}
    for use in uses:
        other = first.setdefault((id(use.tensor), use.axis.dim), use)
        if _identity(other.axis.channels) != _identity(use.axis.channels):
            yield other, use


def _identity(channels: Channels) -> list[tuple[int, int]]:
    """Return a value that is equal for equal layouts; fixed widths are equal if they have the same size."""
    return [(width.full if len(width.offered) == 1 else -id(width), unit) for width, unit in channels.segments]
