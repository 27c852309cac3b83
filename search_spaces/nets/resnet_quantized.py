"""ResNet-18 and 34 in mixed precision, of Single Path One-Shot (Guo et al., ECCV 2020, arXiv:1904.00420).

Each residual block of ResNet (He et al., CVPR 2016, arXiv:1512.03385) chooses the bits of its weights and those of its
activations, for all of its convolutions, the shortcut's too. Activations are clipped by PACT, which takes the place of
the ReLU before a convolution. The first convolution and the linear layer stay in floating point, and have no bit
operations.

Differs: bits alone are searched, where the paper also searches the inner channels of the blocks; all 16 pairs of bits
are on offer, unless ``pairs`` says less (:data:`PAPER_PAIRS`); how weights are quantized stands in
:mod:`mutators.quantization.quantizers`. Channels, width and strides are arguments.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import nn

from mutators import LayerChoice, ValueChoice
from mutators.quantization import QuantizedConv2d
from mutators.quantization.quantizers import MOST_BITS
from search_spaces.checks import is_int
from search_spaces.nets.layers.blocks import check_build, conv_bn
from search_spaces.reference import Reference

INPUT_SHAPE = (3, 224, 224)
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""By the number of layers, the number of blocks in each stage."""

WIDTHS = (64, 128, 256, 512)
STRIDES = (2, 2, 1, 2, 2, 2)
STRIDES_32 = (1, 1, 1, 2, 2, 2)
"""Of the stem, of the pooling behind it, and of the four stages: as published, and for images of 28 to 40 pixels."""

BITS = (1, 2, 3, 4)
PAPER_PAIRS = ((1, 2), (2, 2), (1, 4), (2, 4), (3, 4), (4, 4))
"""The paper's bits of weights and of activations."""

Pairs = Sequence[tuple[int, int]]


class QuantizedResNet(nn.Module):
    """The supernet; build it with :func:`build`. Keys are ``layer1.0.weight_bits`` and ``layer1.0.activation_bits``."""

    def __init__(
        self,
        depth: int,
        num_classes: int,
        in_channels: int,
        widths: Sequence[int],
        strides: Sequence[int],
        bits: Sequence[int],
        pairs: Pairs | None,
    ) -> None:
        super().__init__()
        kernel_size = 7 if strides[0] == 2 else 3
        self.stem = nn.Sequential(*conv_bn(in_channels, widths[0], kernel_size, strides[0]))
        self.pool = nn.MaxPool2d(3, strides[1], padding=1) if strides[1] > 1 else nn.Identity()
        channels = widths[0]
        self.stage_names = [f"layer{i}" for i in range(1, len(widths) + 1)]
        for name, width, stride, blocks in zip(self.stage_names, widths, strides[2:], DEPTHS[depth], strict=True):
            stage: OrderedDict[str, nn.Module] = OrderedDict()
            for i in range(blocks):
                key = f"{name}.{i}"
                stage[str(i)] = QuantizedBlock(channels, width, stride if i == 0 else 1, bits, pairs, key)
                channels = width
            self.add_module(name, nn.Sequential(stage))
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W), of any size, to (N, num_classes) logits."""
        x = self.pool(self.stem(x))
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
        logits: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


class QuantizedBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which a 1x1 convolution projects where shapes differ.

    Its choices are ``weight_bits`` and ``activation_bits``, or with ``pairs`` one of both, ``KEY.bits``: then each
    convolution is a choice of as many as there are pairs, which share one weight.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        bits: Sequence[int],
        pairs: Pairs | None,
        key: str,
    ) -> None:
        super().__init__()
        quantize: Callable[[nn.Conv2d], nn.Module]
        if pairs is None:
            weights, activations = self.weight_bits, self.activation_bits = ValueChoice(bits), ValueChoice(bits)

            def quantize(conv: nn.Conv2d) -> nn.Module:
                return QuantizedConv2d.of(conv, weights, activations)
        else:

            def quantize(conv: nn.Conv2d) -> nn.Module:
                candidates: dict[str, nn.Module] = {f"w{w}a{a}": QuantizedConv2d.of(conv, w, a) for w, a in pairs}
                return LayerChoice(candidates, key=f"{key}.bits")

        self.conv1 = quantize(_conv(in_channels, out_channels, 3, stride))
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = quantize(_conv(out_channels, out_channels, 3))
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            conv = quantize(_conv(in_channels, out_channels, 1, stride))
            self.shortcut = nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels)))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W), nothing below zero, to (N, out_channels, H/stride, W/stride)."""
        y = self.norm2(self.conv2(self.norm1(self.conv1(x))))
        out: torch.Tensor = self.act(y + self.shortcut(x))
        return out


def build(
    depth: int = 18,
    num_classes: int = 1000,
    in_channels: int = 3,
    widths: Sequence[int] = WIDTHS,
    strides: Sequence[int] = STRIDES,
    bits: Sequence[int] = BITS,
    pairs: Pairs | None = None,
) -> nn.Module:
    """Return the supernet.

    Args:
        depth: 18 or 34.
        num_classes: at least 1.
        in_channels: of the images.
        widths: channels of the four stages.
        strides: of the stem, of the pooling and of the four stages. The default is for ImageNet's 224x224 (7x7 are
            left); for 28x28 or 32x32 give :data:`STRIDES_32`. A stem of stride 1 has a kernel of 3 in the place of 7.
        bits: to choose from, for weights and for activations.
        pairs: of bits (weights, activations) to choose from, such as :data:`PAPER_PAIRS`, in the place of ``bits``. A
            block then has one key, as a space cannot forbid single combinations of two.

    Raises:
        NetError: arguments do not fit; all that is wrong is listed.
    """
    problems = [] if depth in list(DEPTHS) else [f"depth is {depth!r}, wanted one of {list(DEPTHS)}"]
    problems += _check_stages(widths, strides) + _check_bits(bits, pairs)
    check_build("resnet_quantized", {"num_classes": num_classes, "in_channels": in_channels}, problems=problems)
    return QuantizedResNet(depth, num_classes, in_channels, widths, strides, bits, pairs)


def _check_stages(widths: Sequence[int], strides: Sequence[int]) -> list[str]:
    found = []
    if len(widths) != 4 or not all(is_int(width) and width > 0 for width in widths):
        found.append(f"widths are {list(widths)}, wanted four numbers from 1 up, one a stage")
    if len(strides) != 6 or any(stride not in (1, 2) for stride in strides):
        found.append(f"strides are {list(strides)}, wanted 6 of 1 or 2: the stem's, the pooling's, then the stages'")
    return found


def _check_bits(bits: Sequence[int], pairs: Pairs | None) -> list[str]:
    rows = [tuple(bits)] if pairs is None else [tuple(pair) for pair in pairs]
    odd = [row for row in rows if not all(is_int(number) and 1 <= number <= MOST_BITS for number in row)]
    if pairs is None:
        wrong = odd or not bits or len(set(bits)) < len(bits)
        return [f"bits are {list(bits)}, wanted distinct numbers from 1 to {MOST_BITS}"] if wrong else []
    wrong = odd or not rows or len(set(rows)) < len(rows) or any(len(row) != 2 for row in rows)
    return [f"pairs are {rows}, wanted distinct pairs of numbers from 1 to {MOST_BITS}"] if wrong else []


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size at stride 1, drawn as He et al. draw it."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _reference(depth: int, macs: int, plain_params: int) -> Reference:
    """Return the costs of a ResNet: each quantized convolution has two clipping values beside its weight."""
    blocks = sum(DEPTHS[depth])
    clips = 2 * (2 * blocks + 3)
    return Reference(f"ResNet-{depth}", {"depth": depth}, (1,) * (2 * blocks), macs, plain_params + clips)


REFERENCES = (_reference(18, 1_814_073_344, 11_689_512), _reference(34, 3_663_761_408, 21_797_672))
"""Multiply-adds and parameters of torchvision's ResNets, which are the same whatever the bits."""
