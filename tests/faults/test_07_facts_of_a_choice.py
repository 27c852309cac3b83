"""Once: a forward that reads what a choice is worked in the trial, and failed in the network made of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mutators import (
    BaseMutator,
    DartsMutator,
    InputChoice,
    LayerChoice,
    RandomMutator,
    ValueChoice,
    apply_choices,
    apply_fixed_architecture,
    extract,
)
from mutators.mmrazor import DifferentiableEdge, OneShotMutator

CHOICES = {"op": {"_idx": 1}, "skip": {"_idx": [1]}, "masked": {"_idx": 0}, "edge": {"_idx": [0, 2]}}


class Reader(nn.Module):
    """Its forward depends on what the choices say of themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.op = LayerChoice({"double": nn.Linear(1, 1), "same": nn.Identity()}, key="op")
        self.skip = InputChoice(choose_from=["op", "", ""], n_chosen=1, key="skip")
        self.masked = LayerChoice({"relu": nn.ReLU(), "tanh": nn.Tanh()}, return_mask=True, key="masked")
        edges: dict[str, nn.Module] = {"a": nn.Identity(), "b": nn.ReLU(), "c": nn.Tanh()}
        self.edge = DifferentiableEdge("edge", edges, num_chosen=2)

    def facts(self) -> list[Any]:
        skip, edge = self.skip, self.edge
        return [
            *(self.op.names, self.op.chosen),
            *(skip.n_candidates, skip.choose_from, skip.n_chosen, skip.chosen, skip.reduction, skip.return_mask),
            *(self.masked.names, self.masked.reduction),
            *(edge.n_candidates, edge.choices, edge.num_chosen, edge.chosen, edge.reduction),
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        xs = [x, x + 1, x + 2, x + 3]
        out, _ = self.masked(self.op(x) * (1 + self.op.chosen[0]) + len(self.op.names))
        return out + self.skip(xs[-self.skip.n_candidates :]) + self.edge(xs[: self.edge.n_candidates])


def test_a_network_still_says_what_its_choices_were() -> None:
    model, x = Reader(), torch.ones(1)
    apply_choices(model, CHOICES)
    facts, want = model.facts(), model(x)
    network = extract(model, CHOICES)
    assert network.facts() == facts and torch.equal(network(x), want)
    assert type(network.op) is nn.Identity
    apply_fixed_architecture(model, CHOICES)
    assert model.facts() == facts and torch.equal(model(x), want) and type(model.op) is nn.Identity
    model = OneShotMutator().deploy_subnet(Reader(), CHOICES)
    assert model.facts() == facts and type(model.op) is nn.Identity


def test_of_nested_choices_the_outermost_is_meant() -> None:
    inner = LayerChoice({"x": nn.ReLU(), "y": nn.Tanh()}, key="inner")
    model = nn.Sequential(LayerChoice({"a": nn.Identity(), "b": nn.ELU(), "c": inner}, key="outer"))
    choices = {"outer": {"_idx": 2}, "inner": {"_idx": 0}}
    for network in (extract(model, choices), OneShotMutator().deploy_subnet(model, choices)):
        assert type(network[0]) is nn.ReLU and network[0].names == ["a", "b", "c"] and network[0].chosen == (2,)


def test_a_layer_keeps_names_of_its_own() -> None:
    class Named(nn.Identity):
        names = ("mine",)

    network = extract(nn.Sequential(LayerChoice([Named()], key="k")), {"k": {"_idx": 0}})
    assert network[0].names == ("mine",) and not hasattr(network[0], "chosen")


def test_chosen_is_what_a_bound_mutator_runs() -> None:
    model = Reader()
    model.add_module("width", ValueChoice((4, 8), key="width"))
    apply_choices(model, {**CHOICES, "width": {"_idx": 1}})
    mutator = RandomMutator(model)
    choices = [model.op, model.skip, model.edge, model.width]
    with pytest.raises(ValueError, match="reset"):
        _ = model.width.chosen
    assert model.op.chosen is None and model.op.applied_indices == (1,)
    for _ in range(20):
        mutator.reset()
        masks = mutator.export_json()
        assert [c.chosen for c in choices] == [tuple(i for i, on in enumerate(masks[c.key]) if on) for c in choices]
    mutator.release()
    assert [c.chosen for c in choices] == [c.applied_indices for c in choices] == [(1,), (1,), (0, 2), (1,)]


def test_a_mutator_that_mixes_runs_all_and_one_of_your_own_may_tell() -> None:
    model = Reader()
    apply_choices(model, CHOICES)
    darts = DartsMutator(model)
    darts.reset()
    assert model.op.chosen == (0, 1)
    darts.release()

    class Own(BaseMutator):
        pass

    class Telling(BaseMutator):
        def chosen_indices(self, mutable: Any) -> tuple[int, ...]:
            return (0,)

    own = Own(model)
    assert model.op.chosen is None  # not what was applied before
    own.release()
    Telling(model)
    assert model.op.chosen == (0,)
