"""PaddleSlim's InceptionABlockSpace and InceptionCBlockSpace: chains of blocks (Szegedy et al., arXiv:1602.07261).

A block of A has 9 tokens and puts four branches together: pooling and 1x1; 1x1; 1x1 and k x k; 1x1 and twice k x k.
One of C has 11 and puts six outputs together: pooling and 1x1; 1x1; 1x1, then 1 x k and k x 1 side by side; 1x1 and
k x k, then 1 x k and k x 1 side by side. In a block that halves the size the last convolution of every output does.

Differs from PaddleSlim: see :mod:`.block_space`; a mask's reductions reduce, where in PaddleSlim every block under a
mask has stride 1; pixels are padded evenly. ``paddle_compatible`` has PaddleSlim's of both. And C works: PaddleSlim's
documentation has it and its release does not; before it was removed, its range table held 9 of the 11 tokens that its
decoder read. Its last convolutions are 1 x k and k x 1, as in the paper; PaddleSlim's were all k x k (a phone's library
had no others), and with ``paddle_compatible`` they are.
"""

from __future__ import annotations

from search_spaces.paddleslim.block_space import BlockSpace, Options, Position
from search_spaces.paddleslim.layers import Concat, Conv, Layer, Layers, Pool
from search_spaces.paddleslim.quantities import Number
from search_spaces.paddleslim.space import KERNELS, Values

CHANNELS = (3, 4, 8, 12, 16, 24, 32, 48, 64, 80, 96, 128, 144, 160, 192, 224, 256, 320, 384, 448, 480, 512, 1024)
_OTHERS: Options = {"kernel_size": KERNELS, "pool": ("avg", "max")}
_A = (
    *("pool_channels", "1x1_channels", "single_reduce", "single_channels"),
    *("double_reduce", "double_middle", "double_channels"),
)
_C = (
    *("pool_channels", "1x1_channels", "single_reduce", "single_row_channels", "single_column_channels"),
    *("double_reduce", "double_middle", "double_row_channels", "double_column_channels"),
)


def _stride(position: Position) -> int:
    return 1 if position.paddle and position.masked else position.stride


def _block_a(options: Values, position: Position) -> tuple[Layers, Number]:
    stride, before, k = _stride(position), position.in_channels, options["kernel_size"]
    pooled, plain, reduced, single, squeezed, middle, double = (options[key] for key in _A)
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


def _block_c(options: Values, position: Position) -> tuple[Layers, Number]:
    stride, before, k = _stride(position), position.in_channels, options["kernel_size"]
    pooled, plain, reduced, row, column, squeezed, middle, far_row, far_column = (options[key] for key in _C)

    def side_by_side(inputs: Number, row: Number, column: Number) -> Layer:
        flat, tall = ((k, k), (k, k)) if position.paddle else ((1, k), (k, 1))
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


SPACES = {
    "InceptionABlockSpace": BlockSpace({**dict.fromkeys(_A, CHANNELS), **_OTHERS}, _block_a),
    "InceptionCBlockSpace": BlockSpace({**dict.fromkeys(_C, CHANNELS), **_OTHERS}, _block_c),
}
