"""PaddleSlim's MobileNetV2Space and MobileNetV2BlockSpace (Sandler et al., CVPR 2018, arXiv:1801.04381).

The whole network has 25 tokens: a stem, a first block without expansion, six stages of inverted residuals, a 1x1
convolution to 1280 channels, global pooling and a linear layer. The initial tokens are the paper's network. A block of
the chain is such a stage, by four tokens.

Differs from PaddleSlim: the classifier is part of the network (``num_classes=None`` leaves it out); pixels are padded
evenly on both sides of a convolution, where Paddle's "SAME" puts what is odd on the right and at the bottom, which
``paddle_compatible`` does. As in PaddleSlim, and other than in the paper, a block without expansion keeps its first 1x1
convolution, and the first block of a stage never has a shortcut. For the chain see also :mod:`.block_space`; as in
PaddleSlim, its first stage expands 32 channels, however many come in: its expansion is not lost on an image's three.
"""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.paddleslim.block_space import BlockSpace, Position
from search_spaces.paddleslim.layers import Conv, GlobalPool, Layers, Repeat, Residual
from search_spaces.paddleslim.quantities import Number
from search_spaces.paddleslim.space import KERNELS, Network, Token, Values, WholeSpace, make_tokens, select_stage
from search_spaces.reference import Reference

HEAD = (3, 4, 8, 12, 16, 24, 32)
EXPANSIONS = (1, 2, 3, 4, 6)
REPEATS = (1, 2, 3, 4, 5, 6)
STEM_CHANNELS, LAST_CHANNELS = 32, 1280
STRIDES = (2, 2, 2, 1, 2, 1)
WIDTHS: Sequence[tuple[int, ...]] = (
    (3, 4, 8, 12, 16, 24, 32, 48),
    (8, 12, 16, 24, 32, 48, 64, 80),
    (16, 24, 32, 48, 64, 80, 96, 128),
    (24, 32, 48, 64, 80, 96, 128, 144, 160, 192),
    (32, 48, 64, 80, 96, 128, 144, 160, 192, 224),
    (64, 80, 96, 128, 144, 160, 192, 224, 256, 320, 384, 512),
)
"""Channels that each stage's token chooses from."""

BLOCK_CHANNELS = (3, 4, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 144, 160, 192, 224, 256, 320, 384, 512)
"""Channels that a block's token chooses from."""

INITIAL = (4, 4, 5, 1, 0, 4, 4, 2, 0, 4, 4, 3, 0, 4, 5, 2, 0, 4, 7, 2, 0, 4, 9, 0, 0)
MODEL_ZOO = (4, 4, 5, 1, 1, 2, 1, 1, 0, 2, 6, 2, 0, 3, 4, 5, 0, 4, 5, 5, 1, 4, 8, 0, 0)
"""The result of PaddleSlim's search, by its model zoo: 71.518 % top-1 on ImageNet, where the initial one has 72.15 %.

The model zoo puts it at 0.295 GFLOPs and the initial one at 0.59. It has 295 million multiply-adds, 0.59 giga
operations at two each, and 6 % fewer than the initial one: the halving is one of units.
"""


def inverted_residual(
    in_channels: Number, middle: Number, channels: Number, kernel_size: Number, stride: int = 1
) -> Layers:
    """Return a 1x1 convolution to ``middle`` channels, a depthwise one, and a linear 1x1 to ``channels``."""
    return (
        Conv(in_channels, middle, act="relu6"),
        Conv(middle, middle, (kernel_size, kernel_size), depthwise=True, stride=stride, act="relu6"),
        Conv(middle, channels),
    )


def inverted_stage(in_channels: Number, middle: Number, stride: int, options: Values) -> Layers:
    """Return a block that may halve and widen, ``middle`` wide inside, and ``repeat - 1`` with a shortcut."""
    expansion, channels, repeat, kernel = (options[k] for k in ("expansion", "channels", "repeat", "kernel_size"))
    first = inverted_residual(in_channels, middle, channels, kernel, stride)
    other = Residual(inverted_residual(channels, channels * expansion, channels, kernel))
    return (*first, Repeat((other,), repeat - 1))


def _network(values: Values, in_channels: int, paddle: bool) -> Network:
    channels = values["head.channels"]
    stages: list[tuple[str, Layers]] = [
        ("stem", (Conv(in_channels, STEM_CHANNELS, (3, 3), stride=2, act="relu6"),)),
        ("head", inverted_residual(STEM_CHANNELS, STEM_CHANNELS, channels, 3)),
    ]
    for i, stride in enumerate(STRIDES, 1):
        options = select_stage(values, f"stage{i}")
        stages.append((f"stage{i}", inverted_stage(channels, channels * options["expansion"], stride, options)))
        channels = options["channels"]
    stages += [("last", (Conv(channels, LAST_CHANNELS, act="relu6"), GlobalPool()))]
    return Network(tuple(stages), LAST_CHANNELS)


_TOKENS = (
    Token("head.channels", HEAD),
    *(
        token
        for i, widths in enumerate(WIDTHS, 1)
        for token in make_tokens(
            f"stage{i}", expansion=EXPANSIONS, channels=widths, repeat=REPEATS, kernel_size=KERNELS
        )
    ),
)
_REFERENCES = (
    Reference("mobilenet_v2", {}, INITIAL, macs=313_619_328, params=3_505_960),
    Reference("mobilenet_v2 of PaddleSlim's model zoo", {}, MODEL_ZOO, macs=295_056_560, params=3_625_320),
)
"""The first is the paper's 300,774,272 and 3,504,872 and the 1x1 convolution that a block keeps without expansion."""


def _block(options: Values, position: Position) -> tuple[Layers, Number]:
    expanded = STEM_CHANNELS if position.index == 0 else position.in_channels
    middle = expanded * options["expansion"]
    return inverted_stage(position.in_channels, middle, position.stride, options), options["channels"]


_OPTIONS = {"expansion": (1, 2, 3, 4, 5, 6), "channels": BLOCK_CHANNELS, "repeat": REPEATS, "kernel_size": KERNELS}
SPACES = {
    "MobileNetV2Space": WholeSpace(_TOKENS, INITIAL, _network, (3, 224, 224), _REFERENCES),
    "MobileNetV2BlockSpace": BlockSpace(_OPTIONS, _block),
}
