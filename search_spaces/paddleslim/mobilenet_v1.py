"""PaddleSlim's MobileNetV1Space and MobileNetV1BlockSpace: MobileNet (Howard et al., 2017, arXiv:1704.04861).

The whole network has 29 tokens: a stem, nine stages of a depthwise and a 1x1 convolution, the seventh of them repeated,
global pooling and a linear layer. The initial tokens are the paper's network. A block of the chain has three tokens.

Differs from PaddleSlim: ReLU after every convolution, as in the paper, where PaddleSlim has no activation at all; the
classifier is part of the network; pixels are padded evenly. ``paddle_compatible`` has no activations and Paddle's
padding. As in PaddleSlim, a depthwise convolution gives a multiple of its input's channels: the most that its token
allows, at least once; in most architectures that token makes no difference. For the chain see also :mod:`.block_space`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces.paddleslim.block_space import BlockSpace, Position
from search_spaces.paddleslim.layers import Conv, GlobalPool, Layers, Repeat
from search_spaces.paddleslim.quantities import Number, elementwise
from search_spaces.paddleslim.space import KERNELS, Network, Token, Values, WholeSpace, make_tokens, select_stage
from search_spaces.reference import Reference

HEAD = (3, 4, 8, 12, 16, 24, 32)
REPEATS = (1, 2, 3, 4, 5, 6)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 2, 1)
REPEATED = 7
"""The stage that a token of its own repeats."""

_WIDTHS: Sequence[tuple[int, ...]] = (
    (3, 4, 8, 12, 16, 24, 32, 48),
    (8, 12, 16, 24, 32, 48, 64, 80),
    (16, 24, 32, 48, 64, 80, 96, 128, 144, 160),
    (24, 32, 48, 64, 80, 96, 128, 144, 160, 192),
    (32, 48, 64, 80, 96, 128, 144, 160, 192, 224, 256, 320),
    (64, 80, 96, 128, 144, 160, 192, 224, 256, 320, 384),
    (64, 80, 96, 128, 144, 160, 192, 224, 256, 320, 384, 512, 1024, 1048),
    (128, 144, 160, 192, 224, 256, 320, 384, 512, 576, 640, 704, 768),
    (160, 192, 224, 256, 320, 384, 512, 640, 768, 832, 1024, 1048),
)
WIDTHS = tuple(zip(_WIDTHS, (*_WIDTHS[1:], _WIDTHS[-1]), strict=True))
"""Channels that each stage's two tokens choose from: of the depthwise and of the 1x1 convolution."""

BLOCK_CHANNELS = (3, 4, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 144, 160, 192, 224, 256, 320, 384, 512, 576, 640, 768,
                  1024, 1048)  # fmt: skip
"""Channels that both of a block's tokens choose from."""

INITIAL = (6, 6, 6, 0, 6, 7, 0, 7, 6, 0, 6, 10, 0, 10, 8, 0, 8, 11, 0, 4, 11, 8, 0, 8, 10, 0, 10, 10, 0)


def separable(in_channels: Number, options: Values, stride: int, act: str | None) -> Layers:
    """Return a depthwise and a 1x1 convolution: (N, in_channels, H, W) to (N, channels, H/stride, W/stride)."""
    wanted, kernel = options["depthwise_channels"], options["kernel_size"]
    multiple = elementwise(np.floor_divide, wanted, in_channels)
    middle = elementwise(np.maximum, multiple * in_channels, in_channels)
    return (
        Conv(in_channels, middle, (kernel, kernel), depthwise=True, stride=stride, act=act),
        Conv(middle, options["channels"], act=act),
    )


def _network(values: Values, in_channels: int, paddle: bool) -> Network:
    act = None if paddle else "relu"
    channels = values["head.channels"]
    stages: list[tuple[str, Layers]] = [("stem", (Conv(in_channels, channels, (3, 3), stride=2, act=act),))]
    for i, stride in enumerate(STRIDES, 1):
        options = select_stage(values, f"stage{i}")
        layers = separable(channels, options, stride, act)
        channels = options["channels"]
        if i == REPEATED:
            layers = (*layers, Repeat(separable(channels, options, 1, act), options["repeat"] - 1))
        stages.append((f"stage{i}", layers))
    stages.append(("pool", (GlobalPool(),)))
    return Network(tuple(stages), channels)


def _stage(i: int) -> tuple[Token, ...]:
    depthwise, pointwise = WIDTHS[i - 1]
    repeat = make_tokens(f"stage{i}", repeat=REPEATS) if i == REPEATED else ()
    return repeat + make_tokens(f"stage{i}", depthwise_channels=depthwise, channels=pointwise, kernel_size=KERNELS)


_TOKENS = (Token("head.channels", HEAD), *(token for i in range(1, len(STRIDES) + 1) for token in _stage(i)))
_REFERENCES = (Reference("mobilenet_v1", {}, INITIAL, macs=568_740_352, params=4_231_976),)


def _block(options: Values, position: Position) -> tuple[Layers, Number]:
    act = None if position.paddle else "relu"
    return separable(position.in_channels, options, position.stride, act), options["channels"]


SPACES = {
    "MobileNetV1Space": WholeSpace(_TOKENS, INITIAL, _network, (3, 224, 224), _REFERENCES),
    "MobileNetV1BlockSpace": BlockSpace(
        {"depthwise_channels": BLOCK_CHANNELS, "channels": BLOCK_CHANNELS, "kernel_size": KERNELS}, _block
    ),
}
