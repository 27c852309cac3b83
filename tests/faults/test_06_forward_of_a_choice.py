"""Once: a choice whose class has a forward of its own, or that has hooks, lost them in the network made of it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mutators import (
    ChoiceError,
    InputChoice,
    LayerChoice,
    RandomMutator,
    apply_choices,
    apply_fixed_architecture,
    extract,
    search_space_of,
)
from mutators.mmrazor import DifferentiableEdge, OneShotMutator, OneShotOP

CHOICES = {"op": {"_idx": 1}, "join": {"_idx": [1]}, "edge": {"_idx": [0]}}


class Scale(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(by)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x


class ResidualLayer(LayerChoice):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x)


class ResidualOP(OneShotOP):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x)


class Doubled(InputChoice):
    def __init__(self) -> None:
        super().__init__(2, n_chosen=1, key="join")
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, xs: list[torch.Tensor]) -> torch.Tensor:
        return self.factor * super().forward(xs)


class Negative(DifferentiableEdge):
    def forward(self, xs: list[torch.Tensor]) -> torch.Tensor:
        return -super().forward(xs)


def scales(*factors: float) -> dict[str, nn.Module]:
    return {f"by{factor:g}": Scale(factor) for factor in factors}


class Net(nn.Module):
    def __init__(self, op: nn.Module | None = None, join: nn.Module | None = None, edge: nn.Module | None = None):
        super().__init__()
        self.op = op or LayerChoice(scales(2, 3), key="op")
        self.join = join or InputChoice(2, n_chosen=1, key="join")
        self.edge = edge or DifferentiableEdge("edge", scales(5, 7), num_chosen=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.op(x)
        return self.edge([x, self.join([x, x + 1])])


def hooked() -> Net:
    net = Net()
    net.op.register_forward_hook(lambda module, args, out: out + 10)
    net.op.register_forward_pre_hook(lambda module, args: (args[0] + 20,))
    net.join.register_forward_hook(lambda module, args, out: out + 30)
    net.edge.register_forward_hook(lambda module, args, kwargs, out: out + 40, with_kwargs=True)
    return net


NETS: dict[str, Callable[[], Net]] = {
    "layer": lambda: Net(op=ResidualLayer(scales(2, 3), key="op")),
    "op": lambda: Net(op=ResidualOP("op", scales(2, 3))),
    "input": lambda: Net(join=Doubled()),
    "edge": lambda: Net(edge=Negative("edge", scales(5, 7), num_chosen=1)),
    "nested": lambda: Net(op=ResidualLayer([nn.Identity(), ResidualLayer(scales(2, 3), key="inner")], key="op")),
    "hooks": hooked,
}


@pytest.fixture(params=sorted(NETS))
def net(request: pytest.FixtureRequest) -> Net:
    return NETS[request.param]()


@pytest.fixture
def choices(net: Net) -> dict:
    return {key: CHOICES.get(key, {"_idx": 1}) for key in search_space_of(net)}


@pytest.fixture
def want(net: Net, choices: dict) -> torch.Tensor:
    twin = copy.deepcopy(net)
    apply_choices(twin, choices)
    return twin(torch.ones(1))


def test_extract_keeps_it(net: Net, choices: dict, want: torch.Tensor) -> None:
    network = extract(net, choices)
    assert torch.equal(network(torch.ones(1)), want)
    assert search_space_of(network) == {}
    assert not {id(p) for p in network.parameters()} & {id(p) for p in net.parameters()}
    assert len(list(network.parameters())) == 2 + isinstance(net.join, Doubled)  # nothing else was copied
    again = extract(copy.deepcopy(network), {})
    again.load_state_dict(network.state_dict())
    RandomMutator(again).reset()
    assert torch.equal(again(torch.ones(1)), want)


def test_a_fixed_architecture_keeps_it(net: Net, choices: dict, want: torch.Tensor) -> None:
    apply_fixed_architecture(net, choices)
    assert torch.equal(net(torch.ones(1)), want)


def test_a_deployed_subnet_keeps_it(net: Net, choices: dict, want: torch.Tensor) -> None:
    network = OneShotMutator().deploy_subnet(net, choices)
    assert network is net and torch.equal(net(torch.ones(1)), want) and search_space_of(net) == {}


def test_names_of_parameters_are_the_supernets() -> None:
    network = extract(NETS["layer"](), CHOICES)
    assert list(network.state_dict()) == ["op.candidates.by3.weight", "edge.by5.weight"]
    assert network.op.names == ["by2", "by3"] and network.op.chosen == (1,) and len(network.op) == 2
    with pytest.raises(KeyError, match="only 'by3': it is fixed"):
        network.op["by2"]


def test_a_forward_that_was_set_from_outside_is_refused_by_extract() -> None:
    """It holds the choice that it was made for, so the network would go on using the supernet."""
    net, x = Net(), torch.ones(1)
    forward = net.op.forward
    net.op.forward = lambda x: forward(x) + 100
    with pytest.raises(ChoiceError, match=r"LayerChoice 'op' .*write a subclass"):
        extract(net, CHOICES)
    apply_choices(net, CHOICES)
    want = net(x)
    apply_fixed_architecture(net, CHOICES)
    assert torch.equal(net(x), want)


def test_a_choice_of_the_usual_kind_leaves_nothing() -> None:
    network = extract(Net(op=OneShotOP("op", scales(2, 3))), CHOICES)
    assert type(network.op) is Scale
