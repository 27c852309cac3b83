"""Norms without running statistics over elastic channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.visitor import Extraction
from mutators.elastic.layers.layer import Axis, Elastic, Size, fill, full_size
from mutators.elastic.layers.parts import Tensors
from mutators.elastic.layers.width import Channels, Span, take


class ElasticNorm(Elastic):
    """A norm with one weight and bias a channel; the channels are the input's unless a layout is given.

    Make one from a plain norm with :meth:`of`.
    """

    VECTORS: ClassVar[tuple[str, ...]] = ("weight", "bias")
    full: int
    channels: Channels | None

    @classmethod
    def of(cls, norm: Any, channels: Size | None = None) -> Self:
        """Return an elastic norm that takes over the parameters of ``norm``; None: its channels.

        Raises:
            ElasticError: ``channels`` or the norm itself do not fit.
        """
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._adopt(norm, channels)
        return layer

    def _adopt(self, norm: Any, channels: Size | None) -> None:
        self.full, self.eps = self._count(norm), norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        self.channels = None if isinstance(channels, int) else self._own("channel", channels)
        if channels is not None and full_size(channels) != self.full:
            raise ElasticError(f"channels are {full_size(channels)} at most, but the norm has {self.full}.")
        self._follow(norm)

    @property
    def _now(self) -> int:
        """Number of channels in use; all, where the input decides."""
        return self.full if self.channels is None else self.channels.size()

    @staticmethod
    def _count(norm: Any) -> int:
        """Return the number of channels of the plain norm."""
        return int(norm.num_features)

    def axes(self) -> Iterator[Axis]:
        if self.channels is not None:
            yield from (Axis(name, 0, self.channels) for name in self.VECTORS if getattr(self, name) is not None)

    def spans(self, n: int, plan: Any = None) -> list[Span]:
        """Return the spans of the channels of an input with ``n`` channels."""
        return [(0, n)] if self.channels is None else self.channels.spans(plan)

    def _slices(self, n: int, plan: Any) -> Tensors:
        spans = self.spans(n, plan)
        vectors = [getattr(self, name) for name in self.VECTORS]
        return tuple([None if vector is None else take(vector, 0, spans) for vector in vectors])

    def _extracted(self, extraction: Extraction) -> nn.Module:
        n = self.full if self.channels is None else self.channels.size(extraction.plan)
        vectors = zip(self.VECTORS, self._slices(self.full, extraction.plan), strict=True)
        return fill(self._plain(n), dict(vectors), self)

    def _plain(self, n: int) -> nn.Module:
        """Return a plain norm of ``n`` channels, without weights."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{self.full}, eps={self.eps}"


class ElasticLayerNorm(ElasticNorm):
    """A ``LayerNorm`` over the features of its input, the last dimension.

    Args:
        normalized_shape: a number, several to choose from, or a width; a fixed number is the largest.
        eps, elementwise_affine, bias: as for ``nn.LayerNorm``.
    """

    def __init__(self, normalized_shape: Size, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True):
        super().__init__()
        self._adopt(nn.LayerNorm(full_size(normalized_shape), eps, elementwise_affine, bias), normalized_shape)

    @staticmethod
    def _count(norm: nn.LayerNorm) -> int:
        if len(norm.normalized_shape) != 1:
            raise ElasticError(f"the layer norm is over {tuple(norm.normalized_shape)}, wanted one dimension.")
        return norm.normalized_shape[0]

    @property
    def normalized_shape(self) -> tuple[int]:
        """The shape in use."""
        return (self._now,)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (..., C) with the features in use, to the same shape."""
        weight, bias = self._running(x.shape[-1])
        return F.layer_norm(x, x.shape[-1:], weight, bias, self.eps)

    def _plain(self, n: int) -> nn.LayerNorm:
        return nn.LayerNorm(n, self.eps, self.weight is not None, self.bias is not None, device="meta")


class ElasticGroupNorm(ElasticNorm):
    """A ``GroupNorm`` whose groups keep their size, so that their number follows the channels.

    Args:
        num_groups: at the largest number of channels.
        num_channels: a number, several to choose from (multiples of the groups' size), or a width.
        eps, affine: as for ``nn.GroupNorm``.
    """

    def __init__(self, num_groups: int, num_channels: Size, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self._adopt(nn.GroupNorm(num_groups, full_size(num_channels), eps, affine), num_channels)

    def _adopt(self, norm: nn.GroupNorm, channels: Size | None) -> None:
        super()._adopt(norm, channels)
        self.group_size = norm.num_channels // norm.num_groups
        segments = self.channels.segments if self.channels is not None else ()
        wrong = {n * unit for width, unit in segments for n in width.offered if n * unit % self.group_size}
        if wrong:
            raise ElasticError(f"channels {sorted(wrong)} are no multiples of the groups' size, {self.group_size}.")

    @staticmethod
    def _count(norm: nn.GroupNorm) -> int:
        return norm.num_channels

    @property
    def num_channels(self) -> int:
        """Number of channels in use."""
        return self._now

    @property
    def num_groups(self) -> int:
        """Number of groups in use."""
        return self._now // self.group_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, ...) with the channels in use, to the same shape.

        Raises:
            ElasticError: they are no whole groups.
        """
        if x.shape[1] % self.group_size:
            raise ElasticError(f"the input has {x.shape[1]} channels, wanted a multiple of {self.group_size}, a group.")
        weight, bias = self._running(x.shape[1])
        return F.group_norm(x, x.shape[1] // self.group_size, weight, bias, self.eps)

    def _plain(self, n: int) -> nn.GroupNorm:
        return nn.GroupNorm(n // self.group_size, n, self.eps, self.weight is not None, device="meta")


class ElasticInstanceNorm2d(ElasticNorm):
    """An ``InstanceNorm2d`` over the channels that its input has; without running statistics.

    Args:
        num_features: a number, several to choose from, or a width; a fixed number is the largest.
        eps, affine: as for ``nn.InstanceNorm2d``.
    """

    def __init__(self, num_features: Size, eps: float = 1e-5, affine: bool = False) -> None:
        super().__init__()
        self._adopt(nn.InstanceNorm2d(full_size(num_features), eps, affine=affine), num_features)

    @staticmethod
    def _count(norm: nn.InstanceNorm2d) -> int:
        if norm.track_running_stats:
            raise ElasticError("the instance norm tracks statistics, wanted track_running_stats=False.")
        return norm.num_features

    @property
    def num_features(self) -> int:
        """Number of channels in use."""
        return self._now

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, H, W) or (C, H, W) with the channels in use, to the same shape."""
        if x.dim() == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        weight, bias = self._running(x.shape[1])
        return F.instance_norm(x, weight=weight, bias=bias, eps=self.eps)

    def _plain(self, n: int) -> nn.InstanceNorm2d:
        return nn.InstanceNorm2d(n, self.eps, affine=self.weight is not None, device="meta")
