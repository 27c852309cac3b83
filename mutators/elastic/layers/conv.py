"""Convolutions, transposed ones too, with elastic kernel and channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import nn

from mutators.elastic.layers.convolution import ElasticConvolution, Pair
from mutators.elastic.layers.layer import Size

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class ElasticConv2d(ElasticConvolution):
    """A ``Conv2d`` that runs with the centre of its kernel and its first channels.

    Dense, depthwise (``groups`` is the number of channels: the output then has the input's channels) or grouped (the
    number of groups stays, so that every number of channels has to be a multiple of it). Its own choices:
    ``kernel_size`` and ``channel``. :meth:`of` makes one from a plain layer.

    Args:
        in_channels: those of the input; a fixed number is the largest, and the input may have fewer.
        out_channels: a number, several to choose from, or a width that other layers share.
        kernel_size: one odd number, or several to choose from.
        stride, dilation, groups, bias, padding_mode: as for ``nn.Conv2d``.
        padding: at the largest kernel; None: that which keeps the size at stride 1. Smaller kernels get less, so that
            the output has the same size.
        transform_kernel: learn a matrix from each kernel size to the next; without, smaller kernels are plain crops.

    Raises:
        ElasticError: a kernel is even, channels are no multiple of the groups, or the padding is too small for a crop.
    """

    PLAIN = nn.Conv2d
    OUT, IN = 0, 1

    def __init__(
        self,
        in_channels: Size,
        out_channels: Size,
        kernel_size: int | Sequence[int],
        stride: int | Pair = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        transform_kernel: bool = True,
    ) -> None:
        more = {"stride": stride, "groups": groups, "bias": bias, "padding_mode": padding_mode}
        self._build(in_channels, out_channels, kernel_size, padding, dilation, transform_kernel, more)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve (N, C_in, H, W) to (N, C_out, H', W') with the channels in use; H' and W' are the full layer's."""
        weight, bias = self._running(x.size(1))
        assert weight is not None
        groups = weight.size(0) if self.depthwise else self._groups
        padding = self._padding(weight.size(-1))
        if self.padding_mode != "zeros":
            assert not isinstance(padding, str)
            x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]), mode=self.padding_mode)
            padding = (0, 0)
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, groups)


class ElasticConvTranspose2d(ElasticConvolution):
    """A ``ConvTranspose2d`` that runs in part; see :class:`ElasticConv2d` for the arguments and what is raised."""

    PLAIN = nn.ConvTranspose2d
    OUT, IN = 1, 0

    def __init__(
        self,
        in_channels: Size,
        out_channels: Size,
        kernel_size: int | Sequence[int],
        stride: int | Pair = 1,
        padding: int | None = None,
        output_padding: int | Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int = 1,
        transform_kernel: bool = True,
    ) -> None:
        more = {"stride": stride, "output_padding": output_padding, "groups": groups, "bias": bias}
        self._build(in_channels, out_channels, kernel_size, padding, dilation, transform_kernel, more)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve (N, C_in, H, W) to (N, C_out, H', W') with the channels in use; H' and W' are the full layer's."""
        weight, bias = self._running(x.shape[1])
        assert weight is not None
        groups = weight.shape[0] if self.depthwise else self._groups
        padding = cast(Pair, self._padding(weight.shape[-1]))
        return F.conv_transpose2d(x, weight, bias, self.stride, padding, self.output_padding, groups, self.dilation)

    def _plain(self, weight: torch.Tensor, groups: int, **more: object) -> nn.Module:
        return super()._plain(weight, groups, output_padding=self.output_padding)
