"""The cell space of DARTS (Liu et al., ICLR 2019, arXiv:1806.09055).

A stem, cells of two kinds, global pooling and a linear layer. All cells of a kind share their decisions: ``normal``
cells keep the size, and the two ``reduce`` cells, after one and two thirds of the depth, halve it and double the width.
A cell's nodes are numbered from n2, since its inputs are n0 and n1; a node adds up two edges from what came before it.
Keys are ``normal_n3_switch`` (which edges) and ``normal_n3_p1`` (the operation on node 3's edge from n1), as in NNI's.

Differs: any input size, odd ones too; edges that are not chosen do not run, and an extracted network does not hold
them; a pooling keeps its batch norm (without weight and bias) in the extracted network, where the authors' retrained
one has none; no auxiliary head and no drop path, which belong to training.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mutators import LayerChoice
from mutators.mmrazor import DifferentiableEdge
from search_spaces.checks import is_int, whole
from search_spaces.domains import InputDomain
from search_spaces.nets.layers.blocks import check_build
from search_spaces.nets.layers.darts_operations import OPERATIONS, FactorizedReduce, relu_conv_bn
from search_spaces.reference import Reference
from search_spaces.schema import Tokens

INPUT_SHAPE = (3, 32, 32)
STEM_MULTIPLIER = 3
EDGES_A_NODE = 2
KINDS = ("normal", "reduce")


@dataclass(frozen=True)
class CellPlan:
    """One cell of the stack as data."""

    kind: str  # one of :data:`KINDS`
    channels: int  # of each node; the cell's output has ``nodes`` times as many
    halved: bool  # whether the cell before halved the size, so that the older input is twice as large as the newer


def plan_cells(layers: int, channels: int) -> tuple[CellPlan, ...]:
    """Return the stack as data, first cell first."""
    reducing = (layers // 3, 2 * layers // 3)
    return tuple(
        CellPlan(KINDS[i in reducing], channels * 2 ** sum(i >= at for at in reducing), i - 1 in reducing)
        for i in range(layers)
    )


class DartsCell(nn.Module):
    """A cell: each node adds up two edges from what came before it; the output is all ``nodes`` side by side.

    ``before`` are the channels of the two inputs, the older first; ``affine`` gives batch norms weight and bias.
    """

    def __init__(self, cell: CellPlan, before: tuple[int, int], nodes: int, affine: bool) -> None:
        super().__init__()
        adapt = FactorizedReduce if cell.halved else relu_conv_bn
        self.older = adapt(before[0], cell.channels, affine)
        self.newer = relu_conv_bn(before[1], cell.channels, affine)
        self.nodes = nn.ModuleList(_node(cell, number, affine) for number in range(2, nodes + 2))

    def forward(self, older: torch.Tensor, newer: torch.Tensor) -> torch.Tensor:
        """(N, before[0], H', W') and (N, before[1], H, W) to (N, nodes * channels, H / stride, W / stride)."""
        states = [self.older(older), self.newer(newer)]
        for node in self.nodes:
            states.append(node(states))
        return torch.cat(states[2:], dim=1)


def _node(cell: CellPlan, number: int, affine: bool) -> nn.Module:
    """Return a node: ``number`` states to the sum of two edges; only a reducing cell halves its inputs."""
    edges = {}
    for i in range(number):
        stride = 2 if cell.kind == "reduce" and i < 2 else 1
        layers = {name: make(cell.channels, stride, affine) for name, make in OPERATIONS.items()}
        key = f"{cell.kind}_n{number}_p{i}"
        edges[key] = LayerChoice(layers, key=key)
    return DifferentiableEdge(f"{cell.kind}_n{number}_switch", edges, num_chosen=EDGES_A_NODE)


class Darts(nn.Module):
    """The network; build it with :func:`build`."""

    def __init__(self, stack: Sequence[CellPlan], num_classes: int, nodes: int, in_channels: int, affine: bool) -> None:
        super().__init__()
        width = STEM_MULTIPLIER * stack[0].channels
        conv = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.stem = nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(width)))
        before = (width, width)
        self.cells = nn.ModuleList()
        for cell in stack:
            self.cells.append(DartsCell(cell, before, nodes, affine))
            before = (before[1], nodes * cell.channels)
        self.head = nn.Linear(before[1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W), of any size, to (N, num_classes) logits."""
        older = newer = self.stem(x)
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        logits: torch.Tensor = self.head(newer.mean(dim=(2, 3)))
        return logits


def build(
    num_classes: int = 10,
    channels: int = 16,
    layers: int = 8,
    nodes: int = 4,
    in_channels: int = 3,
    affine: bool = True,
) -> nn.Module:
    """Return the network with its choices; the default is what the paper searches, for 32x32 images.

    Args:
        num_classes: at least 1.
        channels: of the first cells' nodes; even. The paper retrains with 36.
        layers: number of cells, at least 3. The paper retrains with 20.
        nodes: of a cell, at least 1.
        in_channels: of the images.
        affine: whether the operations' batch norms have weight and bias. The paper searches without and retrains with.

    Raises:
        NetError: arguments do not fit; all that is wrong is listed.
    """
    problems = whole("channels", channels, 2) + whole("layers", layers, 3)
    problems += ["channels is odd, wanted an even number"] if is_int(channels) and channels % 2 else []
    counts = {"num_classes": num_classes, "nodes": nodes, "in_channels": in_channels}
    check_build("darts", counts, problems=problems)
    return Darts(plan_cells(layers, channels), num_classes, nodes, in_channels, affine)


Genotype = Mapping[str, Sequence[tuple[str, int]]]
"""By kind of cell, two (operation, input) a node, as the authors write their results."""

DARTS_V2: Genotype = {
    "normal": [
        *(("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
        *(("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
        *(("sep_conv_3x3", 1), ("skip_connect", 0)),
        *(("skip_connect", 0), ("dil_conv_3x3", 2)),
    ],
    "reduce": [
        *(("max_pool_3x3", 0), ("max_pool_3x3", 1)),
        *(("skip_connect", 2), ("max_pool_3x3", 1)),
        *(("max_pool_3x3", 0), ("skip_connect", 2)),
        *(("skip_connect", 2), ("max_pool_3x3", 1)),
    ],
}
"""The cells that the paper found on CIFAR-10 by second order: 2.76 % test error, 3.3 M parameters."""


def encode_genotype(genotype: Genotype) -> Tokens:
    """Return the tokens of a genotype, kinds in the order of :data:`KINDS`; the operation of an unused edge is 0."""
    operations = list(OPERATIONS)
    tokens: list[int] = []
    for kind in KINDS:
        for node in range(len(genotype[kind]) // EDGES_A_NODE):
            chosen = genotype[kind][node * EDGES_A_NODE : (node + 1) * EDGES_A_NODE]
            names = tuple(str(i) for i in range(node + 2))
            tokens.append(InputDomain(names, EDGES_A_NODE).token({"_idx": [i for _, i in chosen]}))
            by_input = {i: operations.index(operation) for operation, i in chosen}
            tokens += [by_input.get(i, 0) for i in range(node + 2)]
    return tuple(tokens)


REFERENCES = (
    Reference("darts_v2 cifar10", {"channels": 36, "layers": 20}, encode_genotype(DARTS_V2), 528_359_040, 3_349_342),
)
"""The parameters are those that the authors' code counts, "3.349342MB", without the auxiliary head."""
