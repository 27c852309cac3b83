"""Batch norm over elastic channels.

All sub-networks share one set of statistics, and each updates the channels that it has. Before a sub-network is used,
its statistics have to be recalibrated: see :func:`mutators.oneshot.recalibrate_bn`.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import nn

from mutators.choices.torch_private import BatchNorm, get_buffers, get_parameters
from mutators.choices.visitor import Extraction
from mutators.elastic.layers.layer import Size, fill, full_size
from mutators.elastic.layers.norm import ElasticNorm
from mutators.elastic.layers.width import Span


class ElasticBatchNorm(ElasticNorm, BatchNorm):
    """The base of elastic batch norms; the channels are the input's unless a layout is given."""

    VECTORS = ("weight", "bias", "running_mean", "running_var")
    PLAIN: type[BatchNorm]

    def __init__(
        self,
        num_features: Size,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        nn.Module.__init__(self)
        self._adopt(self.PLAIN(full_size(num_features), eps, momentum, affine, track_running_stats), num_features)

    @classmethod
    def of(cls, norm: BatchNorm, num_features: Size | None = None) -> Self:
        """Return an elastic norm that takes over the parameters and statistics of ``norm``; None: its channels.

        Raises:
            ElasticError: ``num_features`` does not fit ``norm``.
        """
        return super().of(norm, num_features)

    def _adopt(self, norm: BatchNorm, channels: Size | None) -> None:
        self.momentum, self.affine, self.track_running_stats = norm.momentum, norm.affine, norm.track_running_stats
        get_parameters(self).update(get_parameters(norm))
        get_buffers(self).update(get_buffers(norm))
        super()._adopt(norm, channels)

    @property
    def num_features(self) -> int:  # type: ignore[override]  # in torch's a plain attribute
        """Number of channels in use; all, where the input decides."""
        return self._now

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (N, C, ...) with the channels in use, to the same shape."""
        self._check_input_dim(x)  # type: ignore[no-untyped-call]
        weight, bias, mean, variance = self._running(x.size(1))
        by_batch = self.training or mean is None
        if by_batch and x.numel() == x.size(1):
            raise ValueError(f"a batch norm in training wants several values a channel, got an input {tuple(x.shape)}.")
        factor = 0.0 if self.momentum is None else self.momentum
        tracking = self.training and self.track_running_stats and mean is not None
        batches = self._buffers["num_batches_tracked"]  # a module's buffers are slow to look up as attributes
        if tracking and batches is not None:
            batches.add_(1)
            factor = 1.0 / float(batches) if self.momentum is None else self.momentum
        if self.training and not tracking:
            mean = variance = None
        # torch.nn.functional's function of this name checks the input, which costs time in a short step.
        y = torch.batch_norm(x, weight, bias, mean, variance, by_batch, factor, self.eps, torch.backends.cudnn.enabled)
        if tracking and self.channels is not None and len(self.channels.segments) > 1:
            spans = self.channels.spans()
            if len(spans) > 1:  # a gathered copy was updated: put it back
                self.put("running_mean", mean, spans)
                self.put("running_var", variance, spans)
        return y

    @torch.no_grad()
    def put(self, name: str, values: torch.Tensor | None, spans: list[Span]) -> None:
        """Write (sum of lengths,) values into the spans of a vector of this layer, such as ``running_mean``."""
        target = getattr(self, name)
        assert values is not None
        for (start, length), part in zip(spans, torch.split(values, [length for _, length in spans]), strict=True):
            target.narrow(0, start, length).copy_(part)

    def _extracted(self, extraction: Extraction) -> nn.Module:
        return fill(super()._extracted(extraction), {"num_batches_tracked": self.num_batches_tracked}, self)

    def _plain(self, n: int) -> BatchNorm:
        return self.PLAIN(n, self.eps, self.momentum, self.affine, self.track_running_stats)

    def extra_repr(self) -> str:
        return f"{self.full}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"


class ElasticBatchNorm1d(ElasticBatchNorm, nn.BatchNorm1d):
    """A ``BatchNorm1d`` over the channels that its input has.

    Args:
        num_features: a fixed number is the largest; the input has as many or fewer. See also :class:`Channels`.
        eps, momentum, affine, track_running_stats: as for ``nn.BatchNorm1d``.
    """

    PLAIN = nn.BatchNorm1d


class ElasticBatchNorm2d(ElasticBatchNorm, nn.BatchNorm2d):
    """A ``BatchNorm2d`` over the channels that its input has; for arguments see :class:`ElasticBatchNorm1d`."""

    PLAIN = nn.BatchNorm2d


class ElasticBatchNorm3d(ElasticBatchNorm, nn.BatchNorm3d):
    """A ``BatchNorm3d`` over the channels that its input has; for arguments see :class:`ElasticBatchNorm1d`."""

    PLAIN = nn.BatchNorm3d
