"""Layers that several nets share, and checks of the arguments that their ``build`` functions share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from mutators.elastic.layers import Channels, ElasticBatchNorm2d, ElasticConv2d
from mutators.elastic.layers.layer import full_size
from search_spaces.checks import share, whole
from search_spaces.errors import NetError


def check_build(net: str, counts: Mapping[str, int], dropout: float = 0.0, problems: Sequence[str] = ()) -> None:
    """Check arguments of a net's ``build``: counts by name, from 1 up, and a dropout from 0 up and below 1.

    Raises NetError with all that does not fit, and with the ``problems`` of its other arguments.
    """
    found = [problem for name, count in counts.items() for problem in whole(name, count, 1)] + list(problems)
    found += share("dropout", dropout)
    if found:
        raise NetError(f"{net} cannot be built like this:", found)


def conv_bn(
    in_channels: int | Channels,
    out_channels: int | Channels,
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
    affine: bool = True,
    relu: bool = True,
) -> list[nn.Module]:
    """Return a convolution without bias, a batch norm and, if asked for, a ReLU, to be unpacked into a ``Sequential``.

    Padding is ``kernel_size // 2``: (N, in_channels, H, W) becomes (N, out_channels, ceil(H / stride),
    ceil(W / stride)) for odd kernels. Layers are elastic where channels are a layout that choices decide.
    """
    n_in, n_out = full_size(in_channels), full_size(out_channels)
    conv = nn.Conv2d(n_in, n_out, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(n_out, affine=affine)
    inputs, outputs = (size if isinstance(size, Channels) else None for size in (in_channels, out_channels))
    layers: list[nn.Module] = [
        conv if inputs is None and outputs is None else ElasticConv2d.of(conv, inputs, outputs),
        norm if outputs is None else ElasticBatchNorm2d.of(norm, outputs),
    ]
    return [*layers, nn.ReLU(inplace=True)] if relu else layers


def depthwise_bn(channels: int | Channels, kernel_size: int, stride: int = 1, affine: bool = True) -> list[nn.Module]:
    """Return a depthwise convolution and a batch norm: (N, channels, H, W) to (N, channels, H/stride, W/stride)."""
    return conv_bn(channels, channels, kernel_size, stride, full_size(channels), affine, relu=False)


def shuffle_channels(x: torch.Tensor, groups: int = 2) -> torch.Tensor:
    """Interleave groups of channels (Zhang et al., ShuffleNet, CVPR 2018, arXiv:1707.01083).

    Args:
        x: (N, C, H, W), C a multiple of ``groups``.

    Returns: (N, C, H, W); channel ``i`` of group ``g`` has become channel ``i * groups + g``.
    """
    n, channels, height, width = x.shape
    grouped = x.reshape(n, groups, channels // groups, height, width)
    return grouped.transpose(1, 2).reshape(n, channels, height, width)


def split_even_odd(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split into channels 0, 2, 4, ... and 1, 3, 5, ...: (N, C, H, W) to two of (N, C/2, H, W).

    It is the inverse of :func:`shuffle_channels` with two groups, followed by a split into halves.
    """
    return x[:, 0::2], x[:, 1::2]


def split_halves(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split into the first and the second half of the channels: (N, C, H, W) to two of (N, C/2, H, W)."""
    first, second = x.chunk(2, dim=1)
    return first, second


class TwoBranches(nn.Module):
    """ShuffleNetV2's unit of two branches (Ma et al., ECCV 2018, arXiv:1807.11164).

    With ``bypass`` (a stage's first unit) both branches see all channels. Without it ``split`` divides them, and the
    first part is passed on untouched. ``shuffle`` interleaves the branches' channels at the end.
    """

    def __init__(
        self,
        main: nn.Module,
        bypass: nn.Module | None,
        split: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
        shuffle: bool,
    ) -> None:
        super().__init__()
        self.main, self.bypass = main, bypass
        self.split, self.shuffle = split, shuffle

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W'): C_out is the sum of both branches' channels."""
        if self.bypass is None:
            passed, rest = self.split(x)
        else:
            passed, rest = self.bypass(x), x
        out = torch.cat((passed, self.main(rest)), dim=1)
        return shuffle_channels(out) if self.shuffle else out
