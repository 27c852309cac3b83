"""PaddleSlim's ResNetBlockSpace: a chain of residual blocks (after arXiv:1512.03385), six tokens each.

A block is a number of 1x1 convolutions, ``leading_channels`` wide, one k x k of ``middle_channels`` that may halve the
size, and a number of 1x1 convolutions without activation, ``channels`` wide; and a shortcut round them, a 1x1
convolution unless it can be the input itself.

Differs from PaddleSlim: see :mod:`.block_space`; the second width is used, where PaddleSlim takes the
third in its place; ReLU follows the sum; pixels are padded evenly. ``paddle_compatible`` has PaddleSlim's of all these.
A repeat of 0 leaves the widths without effect that stand for those convolutions: without trailing ones the k x k
convolution is ``channels`` wide, so that the sum is possible.
"""

from __future__ import annotations

import numpy as np

from search_spaces.paddleslim.block_space import BlockSpace, Place
from search_spaces.paddleslim.layers import Conv, Layers, Repeat, Residual
from search_spaces.paddleslim.quantities import Number, elementwise
from search_spaces.paddleslim.space import KERNELS, Values

INPUT_SHAPE = (3, 32, 32)
CHANNELS = (48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 512, 640)
REPEATS = (0, 1, 2, 3, 4, 6, 7, 8, 10, 12, 14, 16)
OPTIONS: dict[str, tuple[int | str, ...]] = {
    "leading_channels": CHANNELS,
    "middle_channels": CHANNELS,
    "channels": CHANNELS,
    "kernel_size": KERNELS,
    "leading_repeat": REPEATS,
    "trailing_repeat": REPEATS,
}


def _block(options: Values, place: Place) -> tuple[Layers, Number]:
    before, kernel, channels = place.in_channels, options["kernel_size"], options["channels"]
    leading, any_leading, more_leading = options["leading_channels"], *_first_and_more(options["leading_repeat"])
    any_trailing, more_trailing = _first_and_more(options["trailing_repeat"])
    last = channels if place.paddle else options["middle_channels"] * any_trailing + channels * (1 - any_trailing)
    widened = leading * any_leading + before * (1 - any_leading)
    layers = (
        Repeat((Conv(before, leading, act="relu"),), any_leading),
        Repeat((Conv(leading, leading, act="relu"),), more_leading),
        Conv(widened, last, (kernel, kernel), stride=place.stride, act="relu"),
        Repeat((Conv(last, channels),), any_trailing),
        Repeat((Conv(channels, channels),), more_trailing),
    )
    changes = 1 if place.stride > 1 else elementwise(np.not_equal, before, channels)
    shortcut = (Repeat((Conv(before, channels, stride=place.stride),), changes),)
    return (Residual(layers, shortcut, None if place.paddle else "relu"),), channels


def _first_and_more(repeat: Number) -> tuple[Number, Number]:
    """Whether there is a first of them (1 or 0), and how many follow it."""
    first = elementwise(np.minimum, repeat, 1)
    return first, repeat - first


SPACE = BlockSpace(OPTIONS, _block)
