"""ResNet50-D as a once-for-all network (Cai et al., ICLR 2020, arXiv:1908.09791), as MIT published it.

A stem of two convolutions with a residual one between them, max pooling, four stages of up to 4, 4, 6 and 4
bottlenecks, pooling, a linear layer. In MIT's terms 18 expand ratios ``e``; 5 depths ``d``, of the stem (0 or 2:
without or with the residual convolution) and of the stages (blocks beyond the least); and 6 indices of width
multipliers ``w``, of the stem's two widths and of the stages.

Differs: configurations are checked: MIT's also takes 1 for the stem's depth, which means 0. Parameters have names of
our own, so MIT's checkpoints do not load as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from mutators import ValueChoice
from mutators.elastic.layers import Channels, ElasticDepth, ElasticLinear, Width
from mutators.elastic.mit_config import ElasticNetwork
from search_spaces.nets.layers.blocks import check_build
from search_spaces.nets.layers.ofa_blocks import Bottleneck, ResidualLayer, conv_norm, initialise, make_divisible
from search_spaces.reference import Reference

INPUT_SHAPE = (3, 224, 224)
STEM_CHANNELS = 64
WIDTHS = (0.65, 0.8, 1.0)
"""Multipliers of channels, to choose from."""


@dataclass(frozen=True)
class ResNetStage:
    """Blocks of one width; the first of them has the stride."""

    channels: int  # of each block's output, at multiplier 1
    stride: int  # of the first block
    blocks: int  # the least number of them
    depths: tuple[int, ...] = (0, 1, 2)  # numbers of blocks beyond that to choose from
    ratios: tuple[float, ...] = (0.2, 0.25, 0.35)  # inner channels for each output channel, to choose from


STAGES = (
    ResNetStage(256, stride=1, blocks=2),
    ResNetStage(512, stride=2, blocks=2),
    ResNetStage(1024, stride=2, blocks=4),
    ResNetStage(2048, stride=2, blocks=2),
)


class OFAResNet50(ElasticNetwork):
    """The supernet; build it with :func:`build`. (N, in_channels, H, W), of any size, to (N, num_classes) logits.

    Keys are ``stem1.conv.width``, ``stem.depth``, ``stem2.conv.width``, ``stage1.block0.expand_ratio``,
    ``stage1.depth``, ``stage1.width`` and so on.
    """

    def __init__(
        self, num_classes: int, in_channels: int, dropout: float, widths: Sequence[float], stages: Sequence[ResNetStage]
    ) -> None:
        quotas = [make_divisible(STEM_CHANNELS * multiplier) for multiplier in widths]
        choices = ValueChoice(widths), ValueChoice(widths)
        half, width = Width.of(choices[0], [make_divisible(n // 2) for n in quotas]), Width.of(choices[1], quotas)
        inner = Channels.of(half)
        stems = [
            conv_norm(Channels.of(in_channels), inner, 3, 2, nn.ReLU(inplace=True)),
            conv_norm(inner, Channels.of(width), 3, 1, nn.ReLU(inplace=True)),
        ]
        for stem, choice in zip(stems, choices, strict=True):
            stem.get_submodule("conv").add_module("width", choice)
        extra = ResidualLayer(conv_norm(inner, inner, 3, 1, nn.ReLU(inplace=True)))
        layers = OrderedDict[str, nn.Module](stem1=stems[0], stem=ElasticDepth([extra], (0, 2), counts=(0, 1)))
        layers |= {"stem2": stems[1], "stem_pool": nn.MaxPool2d(3, 2, 1)}
        for i, stage in enumerate(stages, 1):
            layers[f"stage{i}"], width = _stage(width, stage, widths)
        layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "dropout": nn.Dropout(dropout)}
        layers["head"] = ElasticLinear(width, num_classes)
        super().__init__(layers)
        initialise(self)


def build(
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.0,
    widths: Sequence[float] = WIDTHS,
    stages: Sequence[ResNetStage] = STAGES,
) -> nn.Module:
    """Return the supernet, set to its largest network.

    Args:
        num_classes: at least 1.
        in_channels: of the images.
        dropout: probability before the linear layer.
        widths: multipliers of the stem's and the stages' channels, to choose from.
        stages: widths, strides and what can be chosen; the default is the published network.

    Raises:
        NetError: arguments do not fit; all that is wrong is listed.
    """
    counts = {"num_classes": num_classes, "in_channels": in_channels, "stages": len(stages)}
    check_build("ofa_resnet50", counts, dropout)
    return OFAResNet50(num_classes, in_channels, dropout, widths, stages)


def _stage(inputs: Width, stage: ResNetStage, widths: Sequence[float]) -> tuple[ElasticDepth, Width]:
    """Return a stage, (N, inputs, H, W) to (N, outputs, H/stride, W/stride) rounded up, and its output's width."""
    choice = ValueChoice(widths)
    outputs = Width.of(choice, [make_divisible(stage.channels * multiplier) for multiplier in widths])
    blocks: dict[str, nn.Module] = {"block0": Bottleneck(inputs, outputs, stage.ratios, stage.stride)}
    for i in range(1, stage.blocks + max(stage.depths)):
        blocks[f"block{i}"] = Bottleneck(outputs, outputs, stage.ratios)
    layer = ElasticDepth(blocks, stage.depths, counts=[stage.blocks + depth for depth in stage.depths])
    layer.add_module("width", choice)  # beside the blocks: the stage runs these and no other children
    return layer, outputs


_OPTIONS = (3, 2, 3, *(3,) * (18 + 2 * 4))
REFERENCES = (
    Reference("ofa_resnet50 largest", {"num_classes": 10}, tuple(n - 1 for n in _OPTIONS), 7_489_616_384, 46_077_482),
    Reference("ofa_resnet50 smallest", {"num_classes": 10}, (0,) * 29, 960_877_408, 5_223_570),
)
