"""PaddleSlim's ResNetSpace: bottleneck ResNets (He et al., CVPR 2016, arXiv:1512.03385) by 8 tokens.

A stem and four stages of bottlenecks, a width and a depth each; the last 1x1 convolution of a bottleneck has four times
the width. The initial tokens are ResNet-50's widths and depths.

Differs from PaddleSlim: ReLU after the sum of a bottleneck, as in the paper; global pooling and a classifier are part
of the network (``num_classes=None`` leaves both out); pixels are padded evenly. ``paddle_compatible`` has no ReLU after
the sum and Paddle's padding. As in PaddleSlim, and other than in the paper, the stem is a 5x5 convolution as wide as
the first stage, without a pooling after it.
"""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.paddleslim.layers import Conv, Layer, Layers, Repeat, Residual
from search_spaces.paddleslim.quantities import Number
from search_spaces.paddleslim.space import Network, Values, WholeSpace, group, own
from search_spaces.reference import Reference

INPUT_SHAPE = (3, 224, 224)
WIDENING = 4
STRIDES = (1, 2, 2, 2)
STAGES: Sequence[tuple[tuple[int, ...], tuple[int, ...]]] = (
    ((48, 64, 96, 128, 160, 192, 224), (2, 3, 4, 5, 6)),
    ((64, 96, 128, 160, 192, 256, 320), (2, 3, 4, 5, 6, 7)),
    ((128, 160, 192, 256, 320, 384), (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24)),
    ((192, 256, 384, 512, 640), (2, 3, 4, 5, 6, 7)),
)
"""Widths and depths that each stage chooses from."""

INITIAL = (1, 1, 2, 2, 3, 4, 3, 1)


def _bottleneck(in_channels: Number, width: Number, stride: int, shortcut: bool, act: str | None) -> Layer:
    layers = (
        Conv(in_channels, width, act="relu"),
        Conv(width, width, (3, 3), stride=stride, act="relu"),
        Conv(width, width * WIDENING),
    )
    return Residual(layers, (Conv(in_channels, width * WIDENING, stride=stride),) if shortcut else (), act)


def _network(values: Values, in_channels: int, paddle: bool) -> Network:
    act = None if paddle else "relu"
    channels = values["stage1.channels"]
    stages: list[tuple[str, Layers]] = [("stem", (Conv(in_channels, channels, (5, 5), stride=2, act="relu"),))]
    for i, stride in enumerate(STRIDES, 1):
        width, repeat = (own(values, f"stage{i}")[key] for key in ("channels", "repeat"))
        first = _bottleneck(channels, width, stride, True, act)
        channels = width * WIDENING
        other = _bottleneck(channels, width, 1, False, act)
        stages.append((f"stage{i}", (first, Repeat((other,), repeat - 1))))
    return Network(tuple(stages), channels)


_TOKENS = tuple(
    token
    for i, (widths, repeats) in enumerate(STAGES, 1)
    for token in group(f"stage{i}", channels=widths, repeat=repeats)
)
SPACE = WholeSpace(_TOKENS, INITIAL, _network)
REFERENCES = (Reference("resnet50 with a 5x5 stem", {}, INITIAL, macs=15_938_748_416, params=25_552_424),)
"""ResNet-50 has 25,557,032 parameters, of which its 7x7 stem has 4,608 more."""
