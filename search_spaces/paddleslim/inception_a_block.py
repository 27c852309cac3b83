"""PaddleSlim's InceptionABlockSpace: a chain of Inception-A blocks (Szegedy et al., arXiv:1602.07261), 9 tokens each.

Four branches are put together: pooling and 1x1; 1x1; 1x1 and k x k; 1x1 and twice k x k. In a block that halves the
size the last convolution of every branch does.

Differs from PaddleSlim: see :mod:`.block_space`; a mask's reductions reduce, where in PaddleSlim every
block under a mask has stride 1; pixels are padded evenly. ``paddle_compatible`` has PaddleSlim's of both.
"""

from __future__ import annotations

from search_spaces.paddleslim.block_space import BlockSpace, Place
from search_spaces.paddleslim.layers import Concat, Conv, Layers, Pool
from search_spaces.paddleslim.quantities import Number
from search_spaces.paddleslim.space import KERNELS, Values

INPUT_SHAPE = (3, 32, 32)
CHANNELS = (3, 4, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 144, 160, 192, 224, 256, 320, 384, 448, 480, 512, 1024)
POOLS = ("avg", "max")
OPTIONS: dict[str, tuple[int | str, ...]] = {
    "pool_channels": CHANNELS,
    "1x1_channels": CHANNELS,
    "single_reduce": CHANNELS,
    "single_channels": CHANNELS,
    "double_reduce": CHANNELS,
    "double_middle": CHANNELS,
    "double_channels": CHANNELS,
    "kernel_size": KERNELS,
    "pool": POOLS,
}


def _block(options: Values, place: Place) -> tuple[Layers, Number]:
    stride = 1 if place.paddle and place.masked else place.stride
    before, k = place.in_channels, options["kernel_size"]
    pooled, plain, reduced, single, squeezed, middle, double = (options[key] for key in tuple(OPTIONS)[:7])
    branches = (
        (Pool(options["pool"], k), Conv(before, pooled, stride=stride, act="relu")),
        (Conv(before, plain, stride=stride, act="relu"),),
        (Conv(before, reduced, act="relu"), Conv(reduced, single, (k, k), stride=stride, act="relu")),
        (
            Conv(before, squeezed, act="relu"),
            Conv(squeezed, middle, (k, k), act="relu"),
            Conv(middle, double, (k, k), stride=stride, act="relu"),
        ),
    )
    return (Concat(branches),), pooled + plain + single + double


SPACE = BlockSpace(OPTIONS, _block)
