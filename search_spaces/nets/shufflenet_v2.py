"""The ShuffleNetV2 supernet of Single Path One-Shot (Guo et al., ECCV 2020, arXiv:1904.00420).

A stem, 20 blocks in four stages, each a choice of four, a 1x1 convolution, global pooling and a linear layer; 4^20
architectures. Two published variants differ in detail:

=====================  ==============================  ===============================
what                   ``megvii`` (the authors')       ``mmrazor`` (MMRazor 0.3)
=====================  ==============================  ===============================
stage's first block    bypass keeps C_in channels,     both branches give C_out / 2
                       the rest comes from the main
other blocks           split even and odd channels     split halves, shuffle at the end
linear layer           no bias, dropout 0.1 before it  bias, no dropout
=====================  ==============================  ===============================

With ``channel_search`` each block decides its inner channels too, 0.2 to 2.0 times the published ones: 40^20
architectures. As the paper has it, a convolution's weight is allocated once, at the largest size, and a path runs its
first ``c_out`` x ``c_in`` part; batch norms are shared and cut likewise, so a path is scored after recalibration. A
sub-network's cost is exact from a table with joint terms of a block's two keys.

Differs: pools over whatever is left of the image where Megvii has ``AvgPool2d(7)``, so any input size works; one
module class serves both variants; channels of the input, depth, width and strides are arguments. No code for the
search of channels was published with the paper; NNI 3.0's rounds down as we do, and ends at 1.6.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mutators import LayerChoice, ValueChoice
from mutators.elastic.layers import Channels, ElasticConv2d, Width
from search_spaces.checks import one_of
from search_spaces.nets.layers import blocks
from search_spaces.nets.layers.blocks import check_build, conv_bn, depthwise_bn
from search_spaces.reference import Reference

OPTIONS = ("3x3", "5x5", "7x7", "xception")
"""Every block's candidates, in the order of Megvii's numbers 0 to 3."""

PAPER = (2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3)
"""The architecture that the paper found, as tokens: top-1 error 25.6 % on ImageNet by Megvii's README."""

SCALES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
"""What a block's inner channels may be multiplied by, where channels are searched."""

INPUT_SHAPE = (3, 224, 224)
STRIDES = (2, 2, 2, 2, 2)
STRIDES_32 = (1, 1, 2, 2, 2)
"""Of the stem and the four stages: as published, and for images of 28 to 40 pixels, of which they leave 4 or 5."""


@dataclass(frozen=True)
class ShuffleStage:
    """Blocks of one width; the first of them widens."""

    channels: int  # of each block's output; even
    depth: int  # number of blocks


@dataclass(frozen=True)
class Variant:
    """Details in which the published variants differ; see the table above."""

    bypass_keeps_width: bool
    shuffle_first: bool
    head_bias: bool
    dropout: float


STAGES = (ShuffleStage(64, 4), ShuffleStage(160, 4), ShuffleStage(320, 8), ShuffleStage(640, 4))
STEM_CHANNELS, HEAD_CHANNELS = 16, 1024
VARIANTS = {
    "megvii": Variant(bypass_keeps_width=True, shuffle_first=True, head_bias=False, dropout=0.1),
    "mmrazor": Variant(bypass_keeps_width=False, shuffle_first=False, head_bias=True, dropout=0.0),
}


class ShuffleNetV2(nn.Module):
    """The supernet; build it with :func:`build`.

    Keys are ``stage1.block0`` to ``stage4.block3``, each followed by ``stage1.block0.channels`` and the like where
    channels are searched.
    """

    def __init__(
        self,
        variant: Variant,
        num_classes: int,
        in_channels: int,
        strides: Sequence[int],
        affine: bool,
        dropout: float,
        stages: Sequence[ShuffleStage],
        channel_search: bool,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(in_channels, STEM_CHANNELS, 3, strides[0], affine=affine))
        channels = STEM_CHANNELS
        self.stage_names = [f"stage{i}" for i in range(1, len(stages) + 1)]
        for name, stage, stride in zip(self.stage_names, stages, strides[1:], strict=True):
            self.add_module(name, _stage(variant, channels, stage, stride, affine, channel_search))
            channels = stage.channels
        self.last = nn.Sequential(*conv_bn(channels, HEAD_CHANNELS, affine=affine))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(HEAD_CHANNELS, num_classes, bias=variant.head_bias)
        _initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W), of any size, to (N, num_classes) logits."""
        x = self.stem(x)
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
        x = self.last(x).mean(dim=(2, 3))
        logits: torch.Tensor = self.head(self.dropout(x))
        return logits


def build(
    variant: str = "megvii",
    num_classes: int = 1000,
    in_channels: int = 3,
    strides: Sequence[int] = STRIDES,
    affine: bool = True,
    dropout: float | None = None,
    stages: Sequence[ShuffleStage] = STAGES,
    channel_search: bool = False,
) -> nn.Module:
    """Return the supernet.

    Args:
        variant: "megvii" or "mmrazor".
        num_classes: at least 1.
        in_channels: of the images.
        strides: of the stem and of each stage's first block. The default is for ImageNet's 224x224 (7x7 are left);
            for 28x28 or 32x32 give :data:`STRIDES_32`.
        affine: whether batch norms have weight and bias. Megvii trains the supernet without (False) and the network
            that it finds with them (True).
        dropout: probability before the linear layer; None: the variant's.
        stages: widths and depths; the default is the published network.
        channel_search: whether each block also decides its inner channels, by the factors :data:`SCALES`.

    Raises:
        NetError: arguments do not fit; all that is wrong is listed.
    """
    problems = one_of("variant", variant, VARIANTS) + _check_stages(strides, stages)
    counts = {"num_classes": num_classes, "in_channels": in_channels}
    check_build("shufflenet_v2", counts, 0.0 if dropout is None else dropout, problems)
    chosen = VARIANTS[variant]
    rate = chosen.dropout if dropout is None else dropout
    return ShuffleNetV2(chosen, num_classes, in_channels, strides, affine, rate, stages, channel_search)


def _check_stages(strides: Sequence[int], stages: Sequence[ShuffleStage]) -> list[str]:
    found = []
    if len(strides) != len(stages) + 1 or any(stride not in (1, 2) for stride in strides):
        found.append(f"strides are {list(strides)}, wanted {len(stages) + 1} of 1 or 2: the stem's, then the stages'")
    width = STEM_CHANNELS
    for stage in stages:
        if stage.channels % 2 or stage.channels <= width or stage.depth < 1:
            found.append(f"{stage} follows {width} channels, wanted an even number of more channels and a depth >= 1")
        width = stage.channels
    return found


def _stage(
    variant: Variant, in_channels: int, stage: ShuffleStage, stride: int, affine: bool, channel_search: bool
) -> nn.Module:
    """Return a stage: (N, in_channels, H, W) to (N, stage.channels, H/stride, W/stride)."""
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(stage.depth):
        scale = ValueChoice(SCALES) if channel_search else None
        middle = _middle(stage.channels // 2, scale)
        unit = _Unit(variant, in_channels if i == 0 else None, middle, stage.channels, stride if i == 0 else 1, affine)
        blocks[f"block{i}"] = LayerChoice({option: unit.candidate(option) for option in OPTIONS})
        if scale is not None:
            blocks[f"block{i}"].add_module("channels", scale)  # beside the candidates, so that its key is not theirs
    return nn.Sequential(blocks)


def _middle(channels: int, scale: ValueChoice | None) -> int | Channels:
    """Return a block's inner channels: as published, or by the choice of a factor, rounded down."""
    if scale is None:
        return channels
    return Channels.of(Width.of(scale, [channels * fifths // 5 for fifths in range(1, len(SCALES) + 1)]))


@dataclass(frozen=True)
class _Unit:
    """The shape of one block: (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride)."""

    variant: Variant
    in_channels: int | None  # of a stage's first block; None for the others, which keep ``out_channels``
    middle: int | Channels  # of the main branch, inside; half of ``out_channels`` as published
    out_channels: int
    stride: int
    affine: bool

    def candidate(self, option: str) -> nn.Module:
        """Return the block with one of :data:`OPTIONS`; xception's bypass is that of 3x3."""
        kernel_size = 3 if option == "xception" else int(option[0])
        bypass = None if self.in_channels is None else self._bypass(self.in_channels, kernel_size)
        main = self._xception() if option == "xception" else self._shuffle(kernel_size)
        split = blocks.split_even_odd if self.variant.shuffle_first else blocks.split_halves
        return blocks.TwoBranches(main, bypass, split, shuffle=not self.variant.shuffle_first)

    @property
    def _widths(self) -> tuple[int, int | Channels, int]:
        """Return the channels of the main branch: in, middle, out."""
        half = self.out_channels // 2
        if self.in_channels is None:
            return half, self.middle, half
        passed = self.in_channels if self.variant.bypass_keeps_width else half
        return self.in_channels, self.middle, self.out_channels - passed

    def _bypass(self, in_channels: int, kernel_size: int) -> nn.Module:
        """Return layers: (N, in_channels, H, W) to (N, in_channels or out_channels / 2, H/stride, W/stride)."""
        out = self.out_channels - self._widths[2]
        return nn.Sequential(
            *depthwise_bn(in_channels, kernel_size, self.stride, self.affine),
            *conv_bn(in_channels, out, affine=self.affine),
        )

    def _shuffle(self, kernel_size: int) -> nn.Module:
        """Return a 1x1, a depthwise k x k and a 1x1 convolution, of :attr:`_widths`."""
        first, middle, last = self._widths
        return nn.Sequential(
            *conv_bn(first, middle, affine=self.affine),
            *depthwise_bn(middle, kernel_size, self.stride, self.affine),
            *conv_bn(middle, last, affine=self.affine),
        )

    def _xception(self) -> nn.Module:
        """Return three times a depthwise 3x3 and a 1x1 convolution, of :attr:`_widths`."""
        first, middle, last = self._widths
        return nn.Sequential(
            *depthwise_bn(first, 3, self.stride, self.affine),
            *conv_bn(first, middle, affine=self.affine),
            *depthwise_bn(middle, 3, affine=self.affine),
            *conv_bn(middle, middle, affine=self.affine),
            *depthwise_bn(middle, 3, affine=self.affine),
            *conv_bn(middle, last, affine=self.affine),
        )


def _initialise(net: ShuffleNetV2) -> None:
    """Draw weights as both variants do: normal, batch norms near the identity."""
    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, ElasticConv2d)):
            nn.init.normal_(module.weight, 0, 0.01 if name.startswith("stem") else 1.0 / module.weight.shape[1])
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.constant_(module.bias, 0.0001)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _references() -> tuple[Reference, ...]:
    """Return costs of the paper's and the four uniform architectures, with 1000 classes and affine batch norms.

    For MMRazor its convolutions' numbers are known; the linear layer's 1024 * 1000 come on top.
    """
    archs = {"paper": PAPER} | {f"all {name}": (token,) * 20 for token, name in enumerate(OPTIONS)}
    convolutions = (320_891_200, 293_814_976, 311_627_456, 338_346_176, 356_798_400)
    macs: dict[str, Sequence[int]] = {
        "megvii": (322_918_720, 295_842_496, 313_654_976, 340_373_696, 358_825_920),
        "mmrazor": [convolution_macs + HEAD_CHANNELS * 1000 for convolution_macs in convolutions],
    }
    params = {
        "megvii": (3_558_464, 3_154_880, 3_211_968, 3_297_600, 3_870_816),
        "mmrazor": (3_558_952, 3_155_368, 3_212_456, 3_298_088, 3_871_304),
    }
    return tuple(
        Reference(f"{variant} {name}", {"variant": variant}, tokens, macs[variant][i], params[variant][i])
        for variant in VARIANTS
        for i, (name, tokens) in enumerate(archs.items())
    )


REFERENCES = _references()
