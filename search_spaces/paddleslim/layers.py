"""Layers as data, and what they cost. A network is a tuple of layers; :mod:`.network` makes modules.

The numbers in a layer are ints, or quantities (:mod:`.quantities`) to cost all architectures at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from search_spaces.paddleslim.quantities import Number

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Conv:
    """Convolution without bias, batch norm and activation: (N, inputs, H, W) to (N, outputs, H/stride, W/stride).

    Attributes:
        inputs: channels that come in.
        outputs: channels that go out.
        kernel: height and width, odd; padded so that only the stride changes the size.
        depthwise: every group has one channel of the input.
        stride: 1 or 2; odd sizes are rounded up.
        act: "relu", "relu6" or None.
        norm: whether a batch norm follows.
        dilation: distance of the kernel's taps.
    """

    inputs: Number
    outputs: Number
    kernel: tuple[Number, Number] = (1, 1)
    depthwise: bool = False
    stride: int = 1
    act: str | None = None
    norm: bool = True
    dilation: int = 1


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
class FactorizedReduce:
    """DARTS's ReLU and two 1x1 convolutions of stride 2: (N, inputs, H, W) to (N, outputs, H/2, W/2)."""

    inputs: Number
    outputs: Number


@dataclass(frozen=True)
class Repeat:
    """The same layers ``times`` over, each with weights of its own; 0 times is nothing."""

    layers: tuple[Layer, ...]
    times: Number


@dataclass(frozen=True)
class Residual:
    """What the layers make of the input, added to what the shortcut makes of it (without one: to the input)."""

    layers: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()
    act: str | None = None


@dataclass(frozen=True)
class Concat:
    """Branches that see the same input; their channels are put together."""

    branches: tuple[tuple[Layer, ...], ...]


@dataclass(frozen=True)
class Cell:
    """A cell of DARTS: its input is what the two cells before it made.

    Attributes:
        adapters: layers for the older and for the newer input.
        nodes: of each node its two edges: which of the inputs (0, 1) and nodes (2, 3, ...), and the layers on it.
        stride: of the edges from the inputs.
    """

    adapters: tuple[tuple[Layer, ...], tuple[Layer, ...]]
    nodes: tuple[tuple[Edge, Edge], ...]
    stride: int


Edge = tuple[int, tuple["Layer", ...]]


@dataclass(frozen=True)
class Cells:
    """A stack of cells; both inputs of the first are what came in."""

    cells: tuple[Cell, ...]


Layer = Conv | Pool | GlobalPool | Activation | FactorizedReduce | Repeat | Residual | Concat | Cells
Layers = tuple[Layer, ...]


@dataclass(frozen=True)
class Cost:
    """What layers cost for one input, and the size that they leave.

    Attributes:
        macs: multiply-adds of convolutions.
        params: weights of convolutions, and two a channel of a batch norm.
        size: of the output.
    """

    macs: Number
    params: Number
    size: Size

    def __add__(self, after: Cost) -> Cost:
        return Cost(self.macs + after.macs, self.params + after.params, after.size)


def cost(layers: Layers, size: Size) -> Cost:
    """Return what layers cost on an input of this size, exactly."""
    total = Cost(0, 0, size)
    for layer in layers:
        total += _layer_cost(layer, total.size)
    return total


def _layer_cost(layer: Layer, size: Size) -> Cost:
    match layer:
        case Conv():
            return _conv_cost(layer, size)
        case FactorizedReduce():
            return _conv_cost(Conv(layer.inputs, layer.outputs, stride=2), size)
        case Pool():
            return Cost(0, 0, _halved(size, layer.stride))
        case GlobalPool():
            return Cost(0, 0, (1, 1))
        case Activation():
            return Cost(0, 0, size)
        case Repeat():
            once = cost(layer.layers, size)
            return Cost(layer.times * once.macs, layer.times * once.params, once.size)
        case Residual():
            return cost(layer.shortcut, size) + cost(layer.layers, size)
        case Concat():
            return _together((cost(branch, size) for branch in layer.branches), size)
        case Cells():
            return _cells_cost(layer.cells, size)


def _conv_cost(conv: Conv, size: Size) -> Cost:
    out = _halved(size, conv.stride)
    weights = conv.outputs * (conv.kernel[0] * conv.kernel[1])
    weights = weights if conv.depthwise else weights * conv.inputs
    return Cost(weights * (out[0] * out[1]), weights + conv.outputs * 2 if conv.norm else weights, out)


def _cells_cost(cells: tuple[Cell, ...], size: Size) -> Cost:
    total, older = Cost(0, 0, size), size
    for cell in cells:
        newer = total.size
        out = _halved(newer, cell.stride)
        adapted = _together((cost(cell.adapters[0], older), cost(cell.adapters[1], newer)), out)
        edges = (cost(layers, newer if at < 2 else out) for node in cell.nodes for at, layers in node)
        total, older = total + adapted + _together(edges, out), newer
    return total


def _together(costs: Iterator[Cost] | tuple[Cost, ...], size: Size) -> Cost:
    total = Cost(0, 0, size)
    for one in costs:
        total += one
    return Cost(total.macs, total.params, total.size)


def _halved(size: Size, stride: int) -> Size:
    return -(-size[0] // stride), -(-size[1] // stride)
