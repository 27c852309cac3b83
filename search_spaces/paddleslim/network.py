"""Build networks of tokens: from layers as data (:mod:`.layers`) to torch modules.

Differs from PaddleSlim: weights are drawn as He et al. do (ICCV 2015, arXiv:1502.01852).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from search_spaces.nets.layers.darts_operations import FactorizedReduce
from search_spaces.paddleslim import layers as spec
from search_spaces.paddleslim.quantities import Number
from search_spaces.paddleslim.space import Architecture

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}


class TokenNet(nn.Module):
    """The network of an architecture; build it with :func:`search_spaces.build`.

    If it is PaddleSlim's, layers pad as Paddle's and TensorFlow's "SAME". ``features`` are the stages, and ``head`` is
    the linear layer after global pooling, or None.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        network, classes = architecture.network, architecture.num_classes
        self.tokens = architecture.tokens
        stages = ((name, _sequence(layers, architecture.paddle)) for name, layers in network.stages)
        self.features = nn.Sequential(OrderedDict(stages))
        self.head = None if classes is None else nn.Linear(_int(network.features), classes)
        _initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W), of any size, to (N, num_classes) logits; without a head to (N, features, H', W')."""
        x = self.features(x)
        return x if self.head is None else self.head(x.mean(dim=(2, 3)))


def _sequence(layers: spec.Layers, same: bool) -> nn.Module:
    made = [module for layer in layers for module in _modules(layer, same)]
    return made[0] if len(made) == 1 else nn.Sequential(*made)


def _modules(layer: spec.Layer, same: bool) -> list[nn.Module]:
    match layer:
        case spec.Conv():
            return _conv(layer, same)
        case spec.Pool():
            return [_pool(layer)]
        case spec.GlobalPool():
            return [nn.AdaptiveAvgPool2d(1)]
        case spec.Activation():
            return [_ACTIVATIONS[layer.kind]()]
        case spec.Reduce():
            return [FactorizedReduce(_int(layer.inputs), _int(layer.outputs), affine=True)]
        case spec.Repeat():
            return [_sequence(layer.layers, same) for _ in range(_int(layer.times))]
        case spec.Residual():
            return [ResidualBlock(layer, same)]
        case spec.Concat():
            return [ConcatBlock(layer, same)]
        case spec.Cells():
            return [CellStack(layer, same)]


def _conv(conv: spec.Conv, same: bool) -> list[nn.Module]:
    inputs, outputs = _int(conv.inputs), _int(conv.outputs)
    kernel = _int(conv.kernel[0]), _int(conv.kernel[1])
    padding = tuple(conv.dilation * (k // 2) for k in kernel)
    uneven = same and conv.stride > 1 and kernel != (1, 1)
    made: list[nn.Module] = [SamePadding(kernel, conv.stride)] if uneven else []
    made += [
        nn.Conv2d(
            inputs,
            outputs,
            kernel,
            conv.stride,
            padding=0 if uneven else (padding[0], padding[1]),
            dilation=conv.dilation,
            groups=inputs if conv.depthwise else 1,
            bias=False,
        )
    ]
    made += [nn.BatchNorm2d(outputs)] if conv.norm else []
    return made + ([_ACTIVATIONS[conv.act](inplace=True)] if conv.act else [])


def _pool(pool: spec.Pool) -> nn.Module:
    kernel = _int(pool.kernel)
    if pool.kind == "max":
        return nn.MaxPool2d(kernel, pool.stride, padding=kernel // 2)
    return nn.AvgPool2d(kernel, pool.stride, padding=kernel // 2, count_include_pad=False)


class SamePadding(nn.Module):
    """Padding by zeros, as Paddle's "SAME": an odd pixel goes to the right and to the bottom."""

    def __init__(self, kernel: tuple[int, int], stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C, H', W'): H' = (ceil(H / stride) - 1) * stride + kernel, at least H."""
        total = [
            max(0, (-(-size // self.stride) - 1) * self.stride + kernel - size)
            for size, kernel in zip(x.shape[2:], self.kernel, strict=True)
        ]
        (top, left), (bottom, right) = [t // 2 for t in total], [t - t // 2 for t in total]
        return functional.pad(x, (left, right, top, bottom))


class ResidualBlock(nn.Module):
    """(N, C_in, H, W) to (N, C_out, H', W'): the sum of the layers' output and the shortcut's."""

    def __init__(self, layer: spec.Residual, same: bool) -> None:
        super().__init__()
        self.layers = _sequence(layer.layers, same)
        self.shortcut = _sequence(layer.shortcut, same)
        self.act = _ACTIVATIONS[layer.act]() if layer.act else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.act(self.shortcut(x) + self.layers(x))
        return out


class ConcatBlock(nn.Module):
    """(N, C_in, H, W) to (N, C_out, H', W'): C_out is the sum of the branches' channels."""

    def __init__(self, layer: spec.Concat, same: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_sequence(branch, same) for branch in layer.branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class CellStack(nn.Module):
    """DARTS's cells, each on the outputs of the two before it: (N, C_in, H, W) to (N, C_out, H', W')."""

    def __init__(self, layer: spec.Cells, same: bool) -> None:
        super().__init__()
        self.cells = nn.ModuleList(CellBlock(cell, same) for cell in layer.cells)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        older = newer = x
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        return newer


class CellBlock(nn.Module):
    """A cell: (N, C_0, H', W') and (N, C_1, H, W) to (N, nodes * channels, H / stride, W / stride)."""

    def __init__(self, cell: spec.Cell, same: bool) -> None:
        super().__init__()
        self.adapters = nn.ModuleList(_sequence(layers, same) for layers in cell.adapters)
        self.inputs = [(a, b) for (a, _), (b, _) in cell.nodes]
        self.first = nn.ModuleList(_sequence(layers, same) for (_, layers), _ in cell.nodes)
        self.second = nn.ModuleList(_sequence(layers, same) for _, (_, layers) in cell.nodes)

    def forward(self, older: torch.Tensor, newer: torch.Tensor) -> torch.Tensor:
        states = [self.adapters[0](older), self.adapters[1](newer)]
        for (a, b), first, second in zip(self.inputs, self.first, self.second, strict=True):
            states.append(first(states[a]) + second(states[b]))
        return torch.cat(states[2:], dim=1)


def _int(number: Number) -> int:
    """Return a number of one architecture; a quantity of all of them cannot be built."""
    assert isinstance(number, int)
    return number


def _initialise(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
