"""Once: a model, or a parent of choices, with a ``__deepcopy__`` of its own could not be extracted."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from mutators import ChoiceError, LayerChoice, RandomMutator, apply_fixed_architecture, extract

CHOICES = {"op": {"_idx": 1}}


class Net(nn.Module):
    """A layer and a choice; the layer's output is doubled by what the model has learnt since it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 2)
        self.op = LayerChoice([nn.Identity(), nn.Linear(2, 2)], key="op")
        self.factor = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.op(self.stem(x)) * self.factor


class MadeAnew(Net):
    def __deepcopy__(self, memo: dict) -> Any:
        return type(self)()


class WithItsState(Net):
    def __deepcopy__(self, memo: dict) -> Any:
        made = type(self)()
        made.load_state_dict(self.state_dict())
        return made


class Refusing(Net):
    def __deepcopy__(self, memo: dict) -> Any:
        raise NotImplementedError("not this one")


class Itself(Net):
    def __deepcopy__(self, memo: dict) -> Any:
        return self


class WithoutMemo(Net):
    def __deepcopy__(self, memo: dict) -> Any:
        made = type(self)()
        made.stem, made.op = copy.deepcopy(self.stem), copy.deepcopy(self.op)
        return made


class HalfWay(Net):
    """Fails when its children are copied already, one of which knows its parent."""

    def __init__(self) -> None:
        super().__init__()
        self.stem.parent = [self]

    def __deepcopy__(self, memo: dict) -> Any:
        made = memo[id(self)] = type(self)()
        made.stem = copy.deepcopy(self.stem, memo)
        raise RuntimeError("half way")


@pytest.mark.parametrize("kind", [MadeAnew, WithItsState, Refusing, Itself, WithoutMemo, HalfWay])
@pytest.mark.parametrize("steered", [False, True])
def test_models_and_parents_of_choices_are_extracted(kind: type[Net], steered: bool) -> None:
    net, x = kind(), torch.ones(1, 2)
    net.factor = 2.0
    want = net.op[1](net.stem(x)) * 2
    model = nn.Sequential(net, net)
    if steered:
        RandomMutator(model).reset()
    for network in (extract(net, CHOICES), extract(model, CHOICES)[0]):
        assert torch.equal(network(x), want) and type(network) is kind and type(network.op) is nn.Linear
        assert network is not net and not {id(p) for p in network.parameters()} & {id(p) for p in net.parameters()}
        assert kind is not HalfWay or network.stem.parent[0] is network
    network = extract(model, CHOICES)
    assert network[0] is network[1]


def test_one_that_passes_its_memo_on_decides_how() -> None:
    class Counting(Net):
        def __deepcopy__(self, memo: dict) -> Any:
            made = type(self).__new__(type(self))
            memo[id(self)] = made
            vars(made).update(copy.deepcopy(vars(self), memo))
            made.factor = 7.0
            return made

    network = extract(Counting(), CHOICES)
    assert network.factor == 7 and type(network.op) is nn.Linear


def test_graphs_and_parametrized_parents() -> None:
    class Leaves(fx.Tracer):
        def is_leaf_module(self, module: nn.Module, name: str) -> bool:
            return isinstance(module, (LayerChoice, nn.Linear))

    net, x = Net(), torch.ones(1, 2)
    graph = fx.GraphModule(net, Leaves().trace(net))
    want = net.op[1](net.stem(x))
    assert torch.equal(extract(graph, CHOICES)(x), want)

    class Double(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    net.register_parameter("own", nn.Parameter(torch.ones(1)))
    parametrize.register_parametrization(net, "own", Double())
    network = extract(net, CHOICES)
    assert torch.equal(network(x), want) and network.own.item() == 2


def test_what_cannot_be_copied_is_named_with_what_to_do() -> None:
    net = Net()
    net.stem.lock = threading.Lock()
    model, x = nn.Sequential(nn.Tanh(), net), torch.ones(1, 2)
    with pytest.raises(ChoiceError, match=r"1\.stem \(Linear\) cannot be copied: .*lock.*__deepcopy__.*apply_fixed"):
        extract(model, CHOICES)
    want = net.op[1](net.stem(torch.tanh(x)))
    apply_fixed_architecture(model, CHOICES)
    assert torch.equal(model(x), want)
