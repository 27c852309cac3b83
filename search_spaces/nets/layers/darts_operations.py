"""The eight operations of DARTS (Liu et al., ICLR 2019, arXiv:1806.09055), by the paper's names.

Differs: odd sizes are halved, too, to ceil(H / 2) by every operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn
from torch.nn import functional


class Zero(nn.Module):
    """The operation "none": (N, C, H, W) to zeros (N, C, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class FactorizedReduce(nn.Module):
    """Two 1x1 convolutions of stride 2, of the even and of the odd pixels.

    (N, in_channels, H, W) to (N, out_channels, ceil(H / 2), ceil(W / 2)), out_channels even.
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool) -> None:
        super().__init__()
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(x)
        shifted = functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]  # for odd sizes the last odd pixel is a zero
        normed: torch.Tensor = self.norm(torch.cat((self.even(x), self.odd(shifted)), dim=1))
        return normed


def relu_conv_bn(in_channels: int, out_channels: int, affine: bool) -> nn.Module:
    """Return a ReLU, a 1x1 convolution and a batch norm: (N, in_channels, H, W) to (N, out_channels, H, W)."""
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(out_channels, affine=affine))


def _depthwise(channels: int, kernel: int, stride: int, affine: bool, dilation: int = 1) -> list[nn.Module]:
    """Return layers: (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
    padding = dilation * (kernel // 2)
    spatial = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
    mixing = nn.Conv2d(channels, channels, 1, bias=False)
    return [nn.ReLU(), spatial, mixing, nn.BatchNorm2d(channels, affine=affine)]


def _max_pool(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Sequential(nn.MaxPool2d(3, stride, padding=1), nn.BatchNorm2d(channels, affine=False))


def _avg_pool(channels: int, stride: int, affine: bool) -> nn.Module:
    pool = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))


def _skip(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


def _separable(channels: int, stride: int, affine: bool, kernel: int) -> nn.Module:
    """Return twice a depthwise-separable convolution; the first has the stride."""
    return nn.Sequential(*_depthwise(channels, kernel, stride, affine), *_depthwise(channels, kernel, 1, affine))


def _dilated(channels: int, stride: int, affine: bool, kernel: int) -> nn.Module:
    return nn.Sequential(*_depthwise(channels, kernel, stride, affine, dilation=2))


OPERATIONS: Mapping[str, Callable[[int, int, bool], nn.Module]] = {
    "none": lambda channels, stride, affine: Zero(stride),
    "max_pool_3x3": _max_pool,
    "avg_pool_3x3": _avg_pool,
    "skip_connect": _skip,
    "sep_conv_3x3": partial(_separable, kernel=3),
    "sep_conv_5x5": partial(_separable, kernel=5),
    "dil_conv_3x3": partial(_dilated, kernel=3),
    "dil_conv_5x5": partial(_dilated, kernel=5),
}
"""By the paper's names: (channels, stride, affine) to a module, (N, C, H, W) to (N, C, H / stride, W / stride)."""
