"""MobileNetV3-Large as a once-for-all network (Cai et al., ICLR 2020, arXiv:1908.09791), width multiplier 1.

A stem, a fixed block, five stages of up to four blocks, a last convolution, pooling, a mixing layer, a linear layer:
7371^5 = 2.2e19 architectures. In MIT's terms 20 kernel sizes ``ks``, 20 expand ratios ``e`` and 5 depths ``d``, in the
order of the blocks. The stem, the fixed block and the stages' own widths are no choice.

Differs: configurations are checked; parameters have names of our own, so MIT's checkpoints do not load as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from mutators.elastic.layers import ElasticDepth
from mutators.elastic.mit_config import ElasticNetwork
from search_spaces.nets.layers.blocks import check_build
from search_spaces.nets.layers.ofa_blocks import InvertedResidual, initialise
from search_spaces.reference import Reference

INPUT_SHAPE = (3, 224, 224)
STEM_CHANNELS, LAST_CHANNELS, MIX_CHANNELS = 16, 960, 1280


@dataclass(frozen=True)
class MobileNetStage:
    """Blocks of one width; the first of them has the stride."""

    channels: int  # of each block's output
    stride: int  # of the first block
    squeeze: bool  # whether blocks have squeeze-and-excite
    hardswish: bool  # whether blocks have hard swish instead of ReLU
    depths: tuple[int, ...] = (2, 3, 4)  # numbers of blocks to choose from
    kernels: tuple[int, ...] = (3, 5, 7)  # of the depthwise convolutions, to choose from
    ratios: tuple[float, ...] = (3, 4, 6)  # inner channels for each input channel, to choose from


STAGES = (
    MobileNetStage(24, stride=2, squeeze=False, hardswish=False),
    MobileNetStage(40, stride=2, squeeze=True, hardswish=False),
    MobileNetStage(80, stride=2, squeeze=False, hardswish=True),
    MobileNetStage(112, stride=1, squeeze=True, hardswish=True),
    MobileNetStage(160, stride=2, squeeze=True, hardswish=True),
)


class OFAMobileNetV3(ElasticNetwork):
    """The supernet; build it with :func:`build`. (N, in_channels, H, W), of any size, to (N, num_classes) logits.

    Keys are ``stage1.block0.expand_ratio``, ``stage1.block0.depthwise.conv.kernel_size``, ``stage1.depth`` and so on.
    """

    def __init__(self, num_classes: int, in_channels: int, dropout: float, stages: Sequence[MobileNetStage]) -> None:
        layers = OrderedDict[str, nn.Module](stem=_fixed(in_channels, STEM_CHANNELS, 3, stride=2))
        layers["first"] = InvertedResidual(STEM_CHANNELS, STEM_CHANNELS, kernels=(3,), ratios=(1,))
        channels = STEM_CHANNELS
        for i, stage in enumerate(stages, 1):
            layers[f"stage{i}"] = _stage(channels, stage)
            channels = stage.channels
        layers["last"] = _fixed(channels, LAST_CHANNELS)
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["mix"] = nn.Sequential(nn.Conv2d(LAST_CHANNELS, MIX_CHANNELS, 1, bias=False), nn.Hardswish(inplace=True))
        layers["flatten"] = nn.Flatten()
        layers["dropout"] = nn.Dropout(dropout)
        layers["head"] = nn.Linear(MIX_CHANNELS, num_classes)
        super().__init__(layers)
        initialise(self)


def build(
    num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.1, stages: Sequence[MobileNetStage] = STAGES
) -> nn.Module:
    """Return the supernet, set to its largest network.

    Args:
        num_classes: at least 1.
        in_channels: of the images.
        dropout: probability before the linear layer.
        stages: widths, strides and what can be chosen; the default is the published network.

    Raises:
        NetError: arguments do not fit; all that is wrong is listed.
    """
    counts = {"num_classes": num_classes, "in_channels": in_channels, "stages": len(stages)}
    check_build("ofa_mobilenet_v3", counts, dropout)
    return OFAMobileNetV3(num_classes, in_channels, dropout, stages)


def _fixed(in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch norm, hard swish: (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride)."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
    layers = OrderedDict[str, nn.Module](conv=conv, norm=nn.BatchNorm2d(out_channels), act=nn.Hardswish(inplace=True))
    return nn.Sequential(layers)


def _stage(in_channels: int, stage: MobileNetStage) -> ElasticDepth:
    """Return a stage: (N, in_channels, H, W) to (N, stage.channels, H/stride, W/stride)."""
    activation = nn.Hardswish if stage.hardswish else nn.ReLU
    blocks = {
        f"block{i}": InvertedResidual(
            in_channels if i == 0 else stage.channels,
            stage.channels,
            stage.kernels,
            stage.ratios,
            stage.stride if i == 0 else 1,
            activation,
            stage.squeeze,
        )
        for i in range(max(stage.depths))
    }
    return ElasticDepth(blocks, stage.depths)


LARGEST, SMALLEST = (2,) * 45, (0,) * 45
REFERENCES = (
    Reference("ofa_mobilenet_v3 largest", {"num_classes": 10}, LARGEST, 564_903_456, 6_396_570),
    Reference("ofa_mobilenet_v3 smallest", {"num_classes": 10}, SMALLEST, 120_011_472, 2_142_602),
    Reference("ofa_mobilenet_v3 largest, 1000 classes", {"num_classes": 1000}, LARGEST, 566_170_656, 7_664_760),
)
