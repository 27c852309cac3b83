"""Blocks of Once-for-All's networks (Cai et al., ICLR 2020, arXiv:1908.09791), their inner width a choice.

Blocks follow MobileNetV3 (Howard et al., ICCV 2019, arXiv:1905.02244) and ResNet-D (He et al., CVPR 2019,
arXiv:1812.01187). Channels in use are always the first ones.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from mutators import ValueChoice
from mutators.elastic.layers import Channels, ElasticBatchNorm2d, ElasticConv2d, ElasticLinear, Width


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round to a multiple of ``divisor``, at least one of it, and never less than 90 % of ``value``.

    >>> [make_divisible(value) for value in (3, 20, 36, 41.6)]
    [8, 24, 40, 40]
    """
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * value else nearest


def conv_norm(
    inputs: Channels,
    outputs: Channels,
    kernel_size: int | Sequence[int] = 1,
    stride: int = 1,
    activation: nn.Module | None = None,
    depthwise: bool = False,
) -> nn.Sequential:
    """Return a convolution without bias, a batch norm and an activation.

    (N, inputs, H, W) to (N, outputs, H/stride, W/stride). A depthwise convolution needs the same object as ``inputs``
    and ``outputs``.
    """
    groups = inputs.full if depthwise else 1
    conv = ElasticConv2d(inputs, outputs, kernel_size, stride, groups=groups, bias=False)
    layers = OrderedDict[str, nn.Module](conv=conv, norm=ElasticBatchNorm2d(outputs))
    if activation is not None:
        layers["act"] = activation
    return nn.Sequential(layers)


class SqueezeExcite(nn.Module):
    """Gates of channels, computed from the means of all of them (Hu et al., CVPR 2018, arXiv:1709.01507).

    In the middle there is a quarter of the channels in use, rounded to a multiple of 8.
    """

    def __init__(self, width: Width) -> None:
        super().__init__()
        sizes = {at: make_divisible(size // 4) for at, size in width.sizes.items()}
        channels, middle = Channels.of(width), Channels.of(Width(max(sizes.values()), width.choices, sizes))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = ElasticConv2d(channels, middle, 1)
        self.act = nn.ReLU(inplace=True)
        self.expand = ElasticConv2d(middle, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape."""
        scaled: torch.Tensor = x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))
        return scaled


class InvertedResidual(nn.Module):
    """MobileNetV3's block: expand, depthwise, squeeze-and-excite, project; with a shortcut where shapes allow.

    Choices, where several values are given: ``expand_ratio`` and ``depthwise.conv.kernel_size``.

    Args:
        in_channels, out_channels: fixed.
        kernels: of the depthwise convolution.
        ratios: inner channels for each of ``in_channels``, rounded to a multiple of 8. (1,): nothing is expanded.
        stride: of the depthwise convolution.
        activation: class of the two activations.
        squeeze: whether there is squeeze-and-excite.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernels: Sequence[int],
        ratios: Sequence[float],
        stride: int = 1,
        activation: type[nn.Module] = nn.ReLU,
        squeeze: bool = False,
    ) -> None:
        super().__init__()
        sizes = [make_divisible(round(in_channels * ratio)) for ratio in ratios]
        self.expand_ratio = ValueChoice(ratios) if len(ratios) > 1 else None
        width = Width(sizes[0]) if self.expand_ratio is None else Width.of(self.expand_ratio, sizes)
        inputs, middle, outputs = Channels.of(in_channels), Channels.of(width), Channels.of(out_channels)
        kernel = kernels if len(kernels) > 1 else kernels[0]
        expands = tuple(ratios) != (1,)
        self.expand = conv_norm(inputs, middle, activation=activation(inplace=True)) if expands else nn.Identity()
        self.depthwise = conv_norm(middle, middle, kernel, stride, activation(inplace=True), depthwise=True)
        self.squeeze = SqueezeExcite(width) if squeeze else nn.Identity()
        self.project = conv_norm(middle, outputs)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H/stride, W/stride)."""
        y: torch.Tensor = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + y if self.has_shortcut else y


class Bottleneck(nn.Module):
    """ResNet-D's block: 1x1, 3x3, 1x1 beside a shortcut that pools before it projects.

    Its choice: ``expand_ratio``. Inner channels are that share of the output channels in use, rounded to a multiple
    of 8.

    Args:
        inputs, outputs: widths; the same object: the shortcut is the input itself, and the stride has to be 1.
        ratios: to choose from.
        stride: of the 3x3 convolution and of the pooling.
    """

    def __init__(self, inputs: Width, outputs: Width, ratios: Sequence[float], stride: int = 1) -> None:
        super().__init__()
        self.expand_ratio = ValueChoice(ratios)
        sizes = {
            (*at, i): make_divisible(round(size * ratio))
            for at, size in outputs.sizes.items()
            for i, ratio in enumerate(ratios)
        }
        # Two widths of the same sizes: nothing ties the channels before the 3x3 convolution to those after it.
        first, second = (Width(max(sizes.values()), (*outputs.choices, self.expand_ratio), sizes) for _ in range(2))
        before, middle, after, out = (Channels.of(width) for width in (inputs, first, second, outputs))
        self.reduce = conv_norm(before, middle, activation=nn.ReLU(inplace=True))
        self.conv = conv_norm(middle, after, 3, stride, nn.ReLU(inplace=True))
        self.project = conv_norm(after, out)
        self.shortcut: nn.Module = nn.Identity()
        if inputs is not outputs:
            pool = nn.AvgPool2d(stride, stride, ceil_mode=True) if stride > 1 else nn.Identity()
            self.shortcut = nn.Sequential(OrderedDict(pool=pool, **dict(conv_norm(before, out).named_children())))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) to (N, outputs, H/stride, W/stride), rounded up."""
        y: torch.Tensor = self.act(self.project(self.conv(self.reduce(x))) + self.shortcut(x))
        return y


class ResidualLayer(nn.Module):
    """A layer beside an identity: (N, C, H, W) to the same shape."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x + self.layer(x)
        return y


def initialise(net: nn.Module) -> None:
    """Draw weights as MIT's: convolutions normal by a dense kernel's fan-out, linear layers uniform by the fan-in."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, ElasticConv2d)):
            out, _, height, width = module.weight.shape
            nn.init.normal_(module.weight, 0, math.sqrt(2 / (out * height * width)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.Linear, ElasticLinear)):
            bound = 1 / math.sqrt(module.weight.shape[1])
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
