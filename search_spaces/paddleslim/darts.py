"""PaddleSlim's DartsSpace: the widths of the 20 cells of a fixed DARTS network (arXiv:1806.09055), for CIFAR.

A stem, 20 cells of which the seventh and the fourteenth halve the size, global pooling and a linear layer. The cells'
edges and operations are given; a token a cell chooses the channels of its four nodes. The space whose operations are
searched is :mod:`search_spaces.nets.darts`.

Differs from PaddleSlim: the network gives logits alone. Drop path and the auxiliary head belong to training and are
left out, from ``paddle_compatible`` too, which is the same network here.
"""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.paddleslim.layers import Activation, Cell, Cells, Conv, Edge, Layers, Pool, Reduce
from search_spaces.paddleslim.quantities import Number
from search_spaces.paddleslim.space import Network, Values, WholeSpace, make_tokens
from search_spaces.reference import Reference

CHANNELS = (4, 8, 12, 16, 20, 36, 54, 72, 90, 108, 144, 180, 216, 252)
CELLS, REDUCTIONS = 20, (6, 13)
STEM_CHANNELS, NODES = 108, 4
INITIAL = (5,) * 6 + (7,) * 7 + (10,) * 7

Nodes = Sequence[tuple[tuple[str, int], tuple[str, int]]]
NORMAL: Nodes = (
    (("dil_conv_3x3", 0), ("sep_conv_3x3", 1)),
    (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
    (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
    (("skip_connect", 0), ("sep_conv_3x3", 1)),
)
REDUCE: Nodes = (
    (("max_pool_3x3", 0), ("skip_connect", 1)),
    (("max_pool_3x3", 1), ("skip_connect", 2)),
    (("skip_connect", 2), ("dil_conv_5x5", 3)),
    (("skip_connect", 2), ("max_pool_3x3", 1)),
)
"""Of each node its two edges: the operation, and the input (0, 1) or node (2, 3, ...) that it works on."""


def _network(values: Values, in_channels: int, paddle: bool) -> Network:
    cells: list[Cell] = []
    before: tuple[Number, Number] = (STEM_CHANNELS, STEM_CHANNELS)
    for i in range(CELLS):
        channels: Number = values[f"cell{i + 1}.channels"]
        cells.append(_cell(before, channels, i in REDUCTIONS, i - 1 in REDUCTIONS))
        before = before[1], channels * NODES
    stem = (Conv(in_channels, STEM_CHANNELS, (3, 3)),)
    return Network((("stem", stem), ("cells", (Cells(tuple(cells)),))), before[1])


def _cell(before: tuple[Number, Number], channels: Number, reduces: bool, halved: bool) -> Cell:
    """Return a cell; where the one before it halved the size, the older input is twice as large as the newer."""
    older: Layers = (Reduce(before[0], channels),) if halved else _adapter(before[0], channels)
    nodes = tuple(
        (_edge(a, channels, reduces), _edge(b, channels, reduces)) for a, b in (REDUCE if reduces else NORMAL)
    )
    return Cell((older, _adapter(before[1], channels)), nodes, stride=2 if reduces else 1)


def _adapter(inputs: Number, outputs: Number) -> Layers:
    return Activation(), Conv(inputs, outputs)


def _edge(gene: tuple[str, int], channels: Number, reduces: bool) -> Edge:
    operation, at = gene
    return at, _operation(operation, channels, 2 if reduces and at < 2 else 1)


def _operation(name: str, channels: Number, stride: int) -> Layers:
    """Return layers: (N, channels, H, W) to (N, channels, H/stride, W/stride)."""
    if name == "skip_connect":
        return () if stride == 1 else (Reduce(channels, channels),)
    kind, _, size = name.rpartition("_")
    kernel = int(size[0])
    if kind == "max_pool":
        return (Pool("max", kernel, stride),)
    once = _depthwise(channels, kernel, stride, dilation=2 if kind == "dil_conv" else 1)
    return once if kind == "dil_conv" else (*once, *_depthwise(channels, kernel, 1, dilation=1))


def _depthwise(channels: Number, kernel: int, stride: int, dilation: int) -> Layers:
    spatial = Conv(channels, channels, (kernel, kernel), True, stride, norm=False, dilation=dilation)
    return Activation(), spatial, Conv(channels, channels)


_TOKENS = tuple(token for i in range(CELLS) for token in make_tokens(f"cell{i + 1}", channels=CHANNELS))
_REFERENCES = (Reference("darts widths", {"num_classes": 10}, INITIAL, macs=589_101_696, params=3_767_302),)
"""Derived: PaddleSlim publishes 3.767 MB for it."""
SPACES = {"DartsSpace": WholeSpace(_TOKENS, INITIAL, _network, (3, 32, 32), _REFERENCES)}
