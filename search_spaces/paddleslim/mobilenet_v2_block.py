"""PaddleSlim's MobileNetV2BlockSpace: a chain of MobileNetV2 stages (arXiv:1801.04381), four tokens each.

Differs from PaddleSlim: see :mod:`.block_space`; and the padding of :mod:`.mobilenet_v2`. As
in PaddleSlim, the first stage expands 32 channels, however many come in: its expansion is not lost on an image's three.
"""

from __future__ import annotations

from search_spaces.paddleslim.block_space import BlockSpace, Place
from search_spaces.paddleslim.layers import Layers
from search_spaces.paddleslim.mobilenet_v2 import STEM_CHANNELS, inverted_stage
from search_spaces.paddleslim.quantities import Number
from search_spaces.paddleslim.space import KERNELS, Values

INPUT_SHAPE = (3, 32, 32)
CHANNELS = (3, 4, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 144, 160, 192, 224, 256, 320, 384, 512)
OPTIONS: dict[str, tuple[int | str, ...]] = {
    "expansion": (1, 2, 3, 4, 5, 6),
    "channels": CHANNELS,
    "repeat": (1, 2, 3, 4, 5, 6),
    "kernel_size": KERNELS,
}


def _block(options: Values, place: Place) -> tuple[Layers, Number]:
    expanded = STEM_CHANNELS if place.index == 0 else place.in_channels
    middle = expanded * options["expansion"]
    return inverted_stage(place.in_channels, middle, place.stride, options), options["channels"]


SPACE = BlockSpace(OPTIONS, _block)
