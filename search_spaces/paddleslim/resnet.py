"""PaddleSlim's ResNetSpace and ResNetBlockSpace: residual networks (He et al., CVPR 2016, arXiv:1512.03385).

The whole network has 8 tokens: a stem and four stages of bottlenecks, a width and a depth each; the last 1x1
convolution of a bottleneck has four times the width. The initial tokens are ResNet-50's widths and depths.

A block of the chain has six tokens: a number of 1x1 convolutions, ``leading_channels`` wide, one k x k of
``middle_channels`` that may halve the size, and a number of 1x1 convolutions without activation, ``channels`` wide; and
a shortcut round them, a 1x1 convolution unless it can be the input itself.

Differs from PaddleSlim: ReLU after the sum of a bottleneck, as in the paper; global pooling and a classifier are part
of the network (``num_classes=None`` leaves both out); pixels are padded evenly. ``paddle_compatible`` has no ReLU after
the sum and Paddle's padding. As in PaddleSlim, and other than in the paper, the stem is a 5x5 convolution as wide as
the first stage, without a pooling after it.

The chain differs, too: see :mod:`.block_space`; the second width is used, where PaddleSlim takes the third in its
place. A repeat of 0 leaves the widths without effect that stand for those convolutions: without trailing ones the k x k
convolution is ``channels`` wide, so that the sum is possible.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces.paddleslim.block_space import BlockSpace, Options, Position
from search_spaces.paddleslim.layers import Conv, Layer, Layers, Repeat, Residual
from search_spaces.paddleslim.quantities import Number, elementwise
from search_spaces.paddleslim.space import KERNELS, Network, Values, WholeSpace, make_tokens, select_stage
from search_spaces.reference import Reference

WIDENING = 4
STRIDES = (1, 2, 2, 2)
STAGES: Sequence[tuple[tuple[int, ...], tuple[int, ...]]] = (
    ((48, 64, 96, 128, 160, 192, 224), (2, 3, 4, 5, 6)),
    ((64, 96, 128, 160, 192, 256, 320), (2, 3, 4, 5, 6, 7)),
    ((128, 160, 192, 256, 320, 384), (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24)),
    ((192, 256, 384, 512, 640), (2, 3, 4, 5, 6, 7)),
)
"""Widths and depths that each stage chooses from."""

BLOCK_CHANNELS = (48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 512, 640)
BLOCK_REPEATS = (0, 1, 2, 3, 4, 6, 7, 8, 10, 12, 14, 16)
"""Widths and repeats that a block chooses from."""

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
        width, repeat = (select_stage(values, f"stage{i}")[key] for key in ("channels", "repeat"))
        first = _bottleneck(channels, width, stride, True, act)
        channels = width * WIDENING
        other = _bottleneck(channels, width, 1, False, act)
        stages.append((f"stage{i}", (first, Repeat((other,), repeat - 1))))
    return Network(tuple(stages), channels)


_TOKENS = tuple(
    token
    for i, (widths, repeats) in enumerate(STAGES, 1)
    for token in make_tokens(f"stage{i}", channels=widths, repeat=repeats)
)
_REFERENCES = (Reference("resnet50 with a 5x5 stem", {}, INITIAL, macs=15_938_748_416, params=25_552_424),)
"""ResNet-50 has 25,557,032 parameters, of which its 7x7 stem has 4,608 more."""


def _block(options: Values, position: Position) -> tuple[Layers, Number]:
    before, kernel, channels = position.in_channels, options["kernel_size"], options["channels"]
    leading, any_leading, more_leading = options["leading_channels"], *_split_repeat(options["leading_repeat"])
    any_trailing, more_trailing = _split_repeat(options["trailing_repeat"])
    last = channels if position.paddle else options["middle_channels"] * any_trailing + channels * (1 - any_trailing)
    widened = leading * any_leading + before * (1 - any_leading)
    layers = (
        Repeat((Conv(before, leading, act="relu"),), any_leading),
        Repeat((Conv(leading, leading, act="relu"),), more_leading),
        Conv(widened, last, (kernel, kernel), stride=position.stride, act="relu"),
        Repeat((Conv(last, channels),), any_trailing),
        Repeat((Conv(channels, channels),), more_trailing),
    )
    changes = 1 if position.stride > 1 else elementwise(np.not_equal, before, channels)
    shortcut = (Repeat((Conv(before, channels, stride=position.stride),), changes),)
    return (Residual(layers, shortcut, None if position.paddle else "relu"),), channels


def _split_repeat(repeat: Number) -> tuple[Number, Number]:
    """Return 1 if there is a first of them, else 0, and the number of those that follow it."""
    first = elementwise(np.minimum, repeat, 1)
    return first, repeat - first


_OPTIONS: Options = {
    **dict.fromkeys(("leading_channels", "middle_channels", "channels"), BLOCK_CHANNELS),
    "kernel_size": KERNELS,
    **dict.fromkeys(("leading_repeat", "trailing_repeat"), BLOCK_REPEATS),
}
SPACES = {
    "ResNetSpace": WholeSpace(_TOKENS, INITIAL, _network, (3, 224, 224), _REFERENCES),
    "ResNetBlockSpace": BlockSpace(_OPTIONS, _block),
}
