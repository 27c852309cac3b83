"""Small models with choices, and what is known about each of them."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mutators import InputChoice, LayerChoice, MutableScope


def conv(c_in: int, c_out: int, kernel: int) -> nn.Module:
    return nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2)


class Mnist(nn.Module):
    """NNI 1.9's classic example: keys first_conv, mid_conv, skip."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = LayerChoice(OrderedDict(conv5x5=conv(1, 4, 5), conv3x3=conv(1, 4, 3)), key="first_conv")
        self.mid_conv = LayerChoice([conv(4, 4, 3), conv(4, 4, 5)], key="mid_conv")
        self.conv2 = conv(4, 4, 5)
        self.bn = nn.BatchNorm2d(4)
        self.func_add = InputChoice(n_candidates=2, n_chosen=1, key="skip")
        self.fc = nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, 1, 8, 8). Returns: (N, 10)."""
        x = F.relu(self.conv1(x))
        old = x
        x = self.bn(self.conv2(F.relu(self.mid_conv(x))))
        zero = torch.zeros_like(old)
        x = torch.add(x, self.func_add([zero, old]))
        return self.fc(x.mean(dim=(2, 3)))


MNIST_SPACE = {
    "first_conv": {"_type": "layer_choice", "_value": ["conv5x5", "conv3x3"]},
    "mid_conv": {"_type": "layer_choice", "_value": ["0", "1"]},
    "skip": {"_type": "input_choice", "_value": {"candidates": ["", ""], "n_chosen": 1}},
}


class Naive(nn.Module):
    """Masks and reductions of all kinds, after NNI 1.9's naive search space test."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = LayerChoice([conv(3, 4, 3), conv(3, 4, 5)])
        self.test_mask = LayerChoice([conv(4, 4, 3), conv(4, 4, 5)], return_mask=True)
        self.as_list = LayerChoice({"a": conv(4, 4, 3), "b": conv(4, 4, 5)}, reduction="none")
        self.optional = InputChoice(n_candidates=1, return_mask=True)
        self.mean = InputChoice(n_candidates=3, n_chosen=(1, 3), reduction="mean")
        self.concat = InputChoice(choose_from=["conv1", ""], n_chosen=2, reduction="concat")
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, 3, 8, 8). Returns: (N, 5)."""
        first = self.conv1(x)
        out, mask = self.test_mask(first)
        assert mask.shape == (2,) and mask.dtype == torch.bool
        (out,) = self.as_list(out)
        skipped, mask = self.optional([first])
        assert mask.shape == (1,) and bool(mask.all()) == (skipped is not None)
        if skipped is not None:
            out = out + skipped
        mean = self.mean([out, first, None])
        out = self.concat([first, first if mean is None else mean])
        return self.fc(out.mean(dim=(2, 3)))


class Nested(nn.Module):
    """A choice inside a candidate, and one that is a candidate itself; one layer stands at two places."""

    def __init__(self) -> None:
        super().__init__()
        inner = nn.Sequential(OrderedDict(pre=conv(3, 3, 1), inner=LayerChoice([conv(3, 3, 1), conv(3, 3, 3)])))
        self.block = LayerChoice(
            {"a": inner, "b": LayerChoice({"x": conv(3, 3, 3), "y": conv(3, 3, 5)}), "skip": nn.Identity()}
        )
        self.again = self.block
        self.shared = nn.Sequential(LayerChoice([conv(3, 3, 3), nn.Identity()], key="shared"))
        self.more = nn.Sequential(self.shared, self.shared)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, 3, 8, 8). Returns: (N, 3)."""
        return self.more(self.again(self.block(x))).mean(dim=(2, 3))


class SharedKeys(nn.Module):
    """Two layer choices under one key, and two input choices under another."""

    def __init__(self) -> None:
        super().__init__()
        self.first = LayerChoice([conv(3, 3, 3), conv(3, 3, 1)], key="op")
        self.second = LayerChoice([conv(3, 3, 5), nn.Identity()], key="op")
        self.sum = InputChoice(2, key="in")
        self.mean = InputChoice(2, reduction="mean", key="in")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, 3, 8, 8). Returns: (N, 3)."""
        first = self.first(x)
        second = self.second(first)
        for choice in (self.sum, self.mean):
            chosen = choice([first, second])
            second = second if chosen is None else chosen
        return second.mean(dim=(2, 3))


class Cell(MutableScope):
    """One scope that holds a choice of layer, and of inputs by the keys of what is before them."""

    def __init__(self, key: str, previous: str) -> None:
        super().__init__(key)
        self.op = LayerChoice([conv(3, 3, 3), conv(3, 3, 1)], return_mask=True)
        self.join = InputChoice(choose_from=[previous, key, InputChoice.NO_KEY], n_chosen=(1, 2), return_mask=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, mask = self.op(x)
        assert mask.shape == (2,)
        out, mask = self.join([x, out, x + 1])
        assert mask.shape == (3,)
        return out


class Scopes(nn.Module):
    """Scopes one after the other, each able to look back at the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = LayerChoice([conv(3, 3, 3), conv(3, 3, 5)], key="stem")
        keys = ["stem", "cell0", "cell1", "cell2"]
        self.cells = nn.ModuleList(Cell(key, previous) for previous, key in itertools.pairwise(keys))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, 3, 8, 8). Returns: (N, 3)."""
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        return x.mean(dim=(2, 3))


class Node(nn.Module):
    """A node of a DARTS cell: one op an edge, keys NODE_p0, NODE_p1, ...; NODE_switch keeps two of the edges."""

    def __init__(self, node_id: str, n_inputs: int) -> None:
        super().__init__()
        names = [f"{node_id}_p{i}" for i in range(n_inputs)]
        self.ops = nn.ModuleList(
            LayerChoice(OrderedDict(maxpool=nn.MaxPool2d(3, 1, 1), sepconv=conv(3, 3, 3), skip=nn.Identity()), key=name)
            for name in names
        )
        self.input_switch = InputChoice(choose_from=names, n_chosen=2, key=f"{node_id}_switch")

    def forward(self, states: list[torch.Tensor]) -> Any:
        return self.input_switch([op(state) for op, state in zip(self.ops, states, strict=True)])


class Darts(nn.Module):
    """A DARTS cell of two nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = nn.ModuleList([Node("normal_n2", 2), Node("normal_n3", 3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (N, 3, 8, 8). Returns: (N, 6)."""
        states = [x, x * 2]
        for node in self.nodes:
            states.append(node(states))
        return torch.cat(states[2:], dim=1).mean(dim=(2, 3))


class Plain(nn.Module):
    """Mnist as one would write it by hand, for conv3x3, mid_conv 0."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(1, 4, 3)
        self.mid_conv = conv(4, 4, 3)
        self.conv2 = conv(4, 4, 5)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 10)


def build(name: str = "Mnist") -> nn.Module:
    """A factory, as a saved subnet names it."""
    torch.manual_seed(0)
    return MODELS[name]()


def input_of(name: str) -> torch.Tensor:
    """(2, 1 or 3, 8, 8)"""
    return torch.randn(2, 1 if name == "Mnist" else 3, 8, 8, generator=torch.Generator().manual_seed(1))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "Mnist": Mnist,
    "Naive": Naive,
    "Nested": Nested,
    "SharedKeys": SharedKeys,
    "Scopes": Scopes,
    "Darts": Darts,
}
