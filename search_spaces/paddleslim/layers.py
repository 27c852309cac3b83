"""Layers as data, and their costs. A network is a tuple of layers; :mod:`.network` makes modules of them.

The numbers in a layer are ints, or quantities (:mod:`.quantities`) to cost all architectures at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from search_spaces.paddleslim.quantities import Number

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Conv:
    """Convolution without bias, batch norm and activation: (N, inputs, H, W) to (N, outputs, H/stride, W/stride)."""

    inputs: Number  # channels that come in
    outputs: Number  # channels that go out
    kernel: tuple[Number, Number] = (1, 1)  # height and width, odd; padded so that only the stride changes the size
    depthwise: bool = False  # every group has one channel of the input
    stride: int = 1  # 1 or 2; odd sizes are rounded up
    act: str | None = None  # "relu", "relu6" or None
    norm: bool = True  # whether a batch norm follows
    dilation: int = 1  # distance of the kernel's taps


@dataclass(frozen=True)
class Pool:
    """Pooling, "avg" (padding does not count) or "max": (N, C, H, W) to (N, C, H/stride, W/stride)."""

    kind: Number | str
    kernel: Number
    stride: int = 1


@dataclass(frozen=True)
class GlobalPool:
    """Mean over the image: (N, C, H, W) to (N, C, 1, 1)."""


@dataclass(frozen=True)
class Activation:
    """An activation on its own: "relu" or "relu6"."""

    kind: str = "relu"


@dataclass(frozen=True)
class Reduce:
    """DARTS's factorized reduction, two 1x1 convolutions: (N, inputs, H, W) to (N, outputs, H/2, W/2)."""

    inputs: Number
    outputs: Number


@dataclass(frozen=True)
class Repeat:
    """The same layers several ``times``, each time with weights of their own."""

    layers: tuple[Layer, ...]
    times: Number


@dataclass(frozen=True)
class Residual:
    """Layers beside a shortcut (without one: the input itself); both outputs are added."""

    layers: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()
    act: str | None = None


@dataclass(frozen=True)
class Concat:
    """Branches on the same input; their channels are put together."""

    branches: tuple[tuple[Layer, ...], ...]


@dataclass(frozen=True)
class Cell:
    """A cell of DARTS on the outputs of the two cells before it."""

    adapters: tuple[tuple[Layer, ...], tuple[Layer, ...]]  # for the older and for the newer input
    nodes: tuple[tuple[Edge, Edge], ...]  # of each node its two edges
    stride: int  # of the edges from the inputs


Edge = tuple[int, tuple["Layer", ...]]
"""The input (0, 1) or node (2, 3, ...) that it comes from, and its layers."""


@dataclass(frozen=True)
class Cells:
    """A stack of cells; both inputs of the first one are the stack's."""

    cells: tuple[Cell, ...]


Layer = Conv | Pool | GlobalPool | Activation | Reduce | Repeat | Residual | Concat | Cells
Layers = tuple[Layer, ...]


@dataclass(frozen=True)
class Cost:
    """Costs of layers for one input, and the size of their output."""

    macs: Number  # multiply-adds of convolutions
    params: Number  # weights of convolutions, and two a channel of a batch norm
    size: Size  # of the output

    def __add__(self, after: Cost) -> Cost:
        return Cost(self.macs + after.macs, self.params + after.params, after.size)


def compute_cost(layers: Layers, size: Size) -> Cost:
    """Return the exact cost of layers on an input of this size."""
    total = Cost(0, 0, size)
    for layer in layers:
        total += _cost_layer(layer, total.size)
    return total


def _cost_layer(layer: Layer, size: Size) -> Cost:
    match layer:
        case Conv():
            return _cost_conv(layer, size)
        case Reduce():
            return _cost_conv(Conv(layer.inputs, layer.outputs, stride=2), size)
        case Pool():
            return Cost(0, 0, _divide(size, layer.stride))
        case GlobalPool():
            return Cost(0, 0, (1, 1))
        case Activation():
            return Cost(0, 0, size)
        case Repeat():
            once = compute_cost(layer.layers, size)
            return Cost(layer.times * once.macs, layer.times * once.params, once.size)
        case Residual():
            return compute_cost(layer.shortcut, size) + compute_cost(layer.layers, size)
        case Concat():
            return _add_costs((compute_cost(branch, size) for branch in layer.branches), size)
        case Cells():
            return _cost_cells(layer.cells, size)


def _cost_conv(conv: Conv, size: Size) -> Cost:
    out = _divide(size, conv.stride)
    weights = conv.outputs * (conv.kernel[0] * conv.kernel[1])
    weights = weights if conv.depthwise else weights * conv.inputs
    return Cost(weights * (out[0] * out[1]), weights + conv.outputs * 2 if conv.norm else weights, out)


def _cost_cells(cells: tuple[Cell, ...], size: Size) -> Cost:
    total, older = Cost(0, 0, size), size
    for cell in cells:
        newer = total.size
        out = _divide(newer, cell.stride)
        adapted = _add_costs((compute_cost(cell.adapters[0], older), compute_cost(cell.adapters[1], newer)), out)
        edges = (compute_cost(layers, newer if at < 2 else out) for node in cell.nodes for at, layers in node)
        total, older = total + adapted + _add_costs(edges, out), newer
    return total


def _add_costs(costs: Iterable[Cost], size: Size) -> Cost:
    return sum(costs, Cost(0, 0, size))


def _divide(size: Size, stride: int) -> Size:
    return -(-size[0] // stride), -(-size[1] // stride)
