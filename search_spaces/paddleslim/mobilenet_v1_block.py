"""PaddleSlim's MobileNetV1BlockSpace: a chain of MobileNet blocks (arXiv:1704.04861), three tokens each.

Differs from PaddleSlim: see :mod:`search_spaces.paddleslim.block_space`; and the activations and the padding of
:mod:`search_spaces.paddleslim.mobilenet_v1`, where the depthwise token is explained, too.
"""

from __future__ import annotations

from search_spaces.paddleslim.block_space import BlockSpace, Place
from search_spaces.paddleslim.layers import Layers
from search_spaces.paddleslim.mobilenet_v1 import separable
from search_spaces.paddleslim.quantities import Number
from search_spaces.paddleslim.space import KERNELS, Values

INPUT_SHAPE = (3, 32, 32)
CHANNELS = (3, 4, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 144, 160, 192, 224, 256, 320, 384, 512, 576, 640, 768, 1024,
            1048)  # fmt: skip
OPTIONS: dict[str, tuple[int | str, ...]] = {
    "depthwise_channels": CHANNELS,
    "channels": CHANNELS,
    "kernel_size": KERNELS,
}


def _block(options: Values, place: Place) -> tuple[Layers, Number]:
    act = None if place.paddle else "relu"
    return separable(place.in_channels, options, place.stride, act), options["channels"]


SPACE = BlockSpace(OPTIONS, _block)
