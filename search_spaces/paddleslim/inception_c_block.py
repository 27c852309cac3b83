"""PaddleSlim's InceptionCBlockSpace: a chain of Inception-C blocks (Szegedy et al., arXiv:1602.07261), 11 tokens each.

Six outputs are put together: pooling and 1x1; 1x1; 1x1, then 1 x k and k x 1 side by side; 1x1 and k x k, then 1 x k
and k x 1 side by side. In a block that halves the size the last convolution of every output does.

Differs from PaddleSlim: it works. PaddleSlim's documentation has it and its release does not; before it was removed,
its range table held 9 of the 11 tokens that its decoder read. The last convolutions are 1 x k and k x 1, as in the
paper; PaddleSlim's were all k x k (a phone's library had no others), and with ``paddle_compatible`` they are, with
Paddle's padding, and of stride 1 under a mask. See :mod:`search_spaces.paddleslim.block_space` for the rest.
"""

from __future__ import annotations

from search_spaces.paddleslim.block_space import BlockSpace, Place
from search_spaces.paddleslim.inception_a_block import CHANNELS, POOLS
from search_spaces.paddleslim.layers import Concat, Conv, Layer, Layers, Pool
from search_spaces.paddleslim.quantities import Number
from search_spaces.paddleslim.space import KERNELS, Values

INPUT_SHAPE = (3, 32, 32)
OPTIONS: dict[str, tuple[int | str, ...]] = {
    "pool_channels": CHANNELS,
    "1x1_channels": CHANNELS,
    "single_reduce": CHANNELS,
    "single_row_channels": CHANNELS,
    "single_column_channels": CHANNELS,
    "double_reduce": CHANNELS,
    "double_middle": CHANNELS,
    "double_row_channels": CHANNELS,
    "double_column_channels": CHANNELS,
    "kernel_size": KERNELS,
    "pool": POOLS,
}


def _block(options: Values, place: Place) -> tuple[Layers, Number]:
    stride = 1 if place.paddle and place.masked else place.stride
    before, k = place.in_channels, options["kernel_size"]
    pooled, plain, reduced, row, column, squeezed, middle, far_row, far_column = (
        options[key] for key in tuple(OPTIONS)[:9]
    )

    def side_by_side(inputs: Number, row: Number, column: Number) -> Layer:
        flat, tall = ((k, k), (k, k)) if place.paddle else ((1, k), (k, 1))
        made = (Conv(inputs, out, kernel, stride=stride, act="relu") for out, kernel in ((row, flat), (column, tall)))
        return Concat(tuple((conv,) for conv in made))

    branches: tuple[Layers, ...] = (
        (Pool(options["pool"], k), Conv(before, pooled, stride=stride, act="relu")),
        (Conv(before, plain, stride=stride, act="relu"),),
        (Conv(before, reduced, act="relu"), side_by_side(reduced, row, column)),
        (
            Conv(before, squeezed, act="relu"),
            Conv(squeezed, middle, (k, k), act="relu"),
            side_by_side(middle, far_row, far_column),
        ),
    )
    return (Concat(branches),), pooled + plain + row + column + far_row + far_column


SPACE = BlockSpace(OPTIONS, _block)
