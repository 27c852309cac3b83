"""The plain network of an architecture."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from mutators import (
    ChoiceError,
    InputChoice,
    LayerChoice,
    MutableScope,
    RandomMutator,
    apply_choices,
    extract,
    search_space_of,
)
from mutators.choices.mutable import Mutable
from search_spaces import Space
from tests.mutators import models


def first(model: nn.Module) -> dict:
    space = Space.from_json(search_space_of(model))
    return space.decode([0] * len(space))


def test_computes_exactly_what_the_applied_model_does(name: str, model: nn.Module, drawn: Iterator[dict]) -> None:
    x = models.input_of(name)
    for mode in (True, False):
        model.train(mode)
        for choices in drawn:
            network = extract(model, choices)
            apply_choices(model, choices)
            twin = copy.deepcopy(model)  # batch norm counts in training
            assert torch.equal(network(x), twin(x))
            assert all(m.training is mode for m in network.modules())


def test_nothing_of_the_search_is_left(model: nn.Module, drawn: Iterator[dict]) -> None:
    mutator = RandomMutator(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modules = list(model.modules())
    for choices in drawn:
        network = extract(model, choices)
        kept = [m for m in network.modules() if isinstance(m, Mutable)]
        assert all(isinstance(m, MutableScope) and m.mutator is None for m in kept)
        assert not {id(p) for p in network.parameters()} & {id(p) for p in model.parameters()}
    assert list(model.modules()) == modules
    assert all(m.mutator is mutator for m in modules if isinstance(m, Mutable))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_parameters_are_named_as_in_the_network_written_by_hand() -> None:
    model = models.build("Mnist")
    network = extract(model, {"first_conv": {"_idx": 1}, "mid_conv": {"_idx": 0}, "skip": {"_idx": [1]}})
    plain = models.Plain()
    assert list(network.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(network.state_dict())
    assert torch.equal(plain.conv1.weight, model.conv1["conv3x3"].weight)


def test_bad_choices_are_refused() -> None:
    model = models.build("Mnist")
    with pytest.raises(ChoiceError, match="missing 'mid_conv'"):
        extract(model, {"first_conv": {"_idx": 1}, "skip": {"_idx": [1]}})


def test_every_place_and_every_level() -> None:
    model = models.build("Nested")
    choices = {"block": {"_idx": 0}, "block.a.inner": {"_idx": 1}, "block.b": {"_idx": 0}, "shared": {"_idx": 0}}
    network = extract(model, choices)
    assert network.block is network.again and isinstance(network.block, nn.Sequential)
    assert isinstance(network.block.inner, nn.Conv2d) and network.block.inner.kernel_size == (3, 3)
    assert network.more[0] is network.more[1] is network.shared
    assert sorted(network.state_dict())[:4] == [
        "again.inner.bias",
        "again.inner.weight",
        "again.pre.bias",
        "again.pre.weight",
    ]
    direct = extract(model, {**choices, "block": {"_idx": 1}, "block.b": {"_idx": 1}})
    assert isinstance(direct.block, nn.Conv2d) and direct.block.kernel_size == (5, 5)


def test_a_root_that_is_a_choice() -> None:
    inner = LayerChoice([nn.Linear(1, 1), nn.Identity()], key="inner")
    root = LayerChoice([nn.Identity(), inner], key="k")
    network = extract(root, {"k": {"_idx": 1}, "inner": {"_idx": 0}})
    assert type(network) is nn.Linear and network is not inner[0]
    assert torch.equal(network.weight, inner[0].weight)


def test_nothing_unchosen_is_copied() -> None:
    class Uncopyable(nn.Module):
        def __deepcopy__(self, memo: dict) -> Any:
            raise RuntimeError("copied")

    model = nn.Sequential(LayerChoice([nn.Identity(), Uncopyable()]))
    assert isinstance(extract(model, first(model))[0], nn.Identity)


def test_references_outside_the_module_tree_become_plain_too() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = LayerChoice([nn.Linear(1, 1), nn.Linear(1, 1)])
            self.hidden = [self.a]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.hidden[0](x)

    network = extract(Hidden(), {"a": {"_idx": 1}})
    assert network.hidden[0] is network.a and type(network.a) is nn.Linear


def test_a_reference_to_a_layer_that_is_not_chosen_becomes_plain_too() -> None:
    model = nn.Sequential(LayerChoice([nn.ReLU(), nn.Sequential(LayerChoice([nn.Linear(1, 1), nn.Tanh()]))]))
    model.all = list(model[0])
    network = extract(model, {"0": {"_idx": 0}, "0.1.0": {"_idx": 1}})
    assert network.all[0] is network[0] and type(network.all[1][0]) is nn.Tanh


def test_a_choice_that_knows_itself_stays_one_object() -> None:
    class Shifted(LayerChoice):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 1

    for kind in (LayerChoice, Shifted):
        model = nn.Sequential(kind([nn.ReLU(), nn.Tanh()], return_mask=True))
        model[0].me = model[0][1].owner = [model[0]]
        network = extract(model, {"0": {"_idx": 1}})
        layer = network[0].chosen if kind is LayerChoice else network[0][1]
        assert layer.owner[0] is network[0]


def test_a_candidate_that_knows_its_model() -> None:
    model = nn.Sequential(LayerChoice([nn.Identity(), nn.Tanh()]), nn.ReLU())
    model[0][1].owner = [model]
    network = extract(model, {"0": {"_idx": 1}})
    assert isinstance(network[0], nn.Tanh) and network[0].owner[0] is network


def test_a_candidate_first_seen_elsewhere() -> None:
    inner = nn.Sequential(LayerChoice([nn.Linear(1, 1), nn.Tanh()]))
    model = nn.ModuleDict({"inner": inner, "outer": LayerChoice([inner, nn.ReLU()])})
    network = extract(model, {"inner.0": {"_idx": 1}, "outer": {"_idx": 0}})
    assert network["outer"] is network["inner"] and isinstance(network["inner"][0], nn.Tanh)


def test_layers_that_feed_unselected_inputs_stay() -> None:
    network = extract(models.build("Mnist"), first(models.build("Mnist")))
    assert {"conv2.weight", "bn.weight"} <= set(network.state_dict())


def test_masks_and_lists_are_still_returned() -> None:
    model = nn.ModuleDict(
        {
            "m": LayerChoice([nn.Tanh(), nn.Linear(1, 1)], return_mask=True),
            "l": LayerChoice([nn.Tanh(), nn.Linear(1, 1)], reduction="none"),
            "i": InputChoice(choose_from=["m", ""], return_mask=True, reduction="none"),
        }
    )
    network = extract(model, {"m": {"_idx": 1}, "l": {"_idx": 1}, "i": {"_idx": [1]}})
    x = torch.ones(1)
    out, mask = network["m"](x)
    assert torch.equal(out, model["m"][1](x)) and mask.tolist() == [False, True]
    assert torch.equal(network["l"](x)[0], model["l"][1](x)) and len(network["l"](x)) == 1
    (out,), mask = network["i"]([None, x])
    assert out is x and mask.tolist() == [False, True] and not list(network["i"].parameters())
    assert list(network.state_dict()) == [f"{n}.chosen.{p}" for n in "ml" for p in ("weight", "bias")]
    assert "[1] of ['m', '']" in repr(network["i"])
    with pytest.raises(ChoiceError, match="got 1 inputs"):
        network["i"]([x])


def test_an_extracted_network_has_no_choices_any_more() -> None:
    network = extract(models.build("Naive"), first(models.build("Naive")))
    assert search_space_of(network) == {}


def test_it_can_be_traced() -> None:
    model = models.build("Darts")
    network = extract(model, first(model)).eval()
    x = models.input_of("Darts")
    exported = torch.export.export(network, (x,))
    assert torch.allclose(exported.module()(x), network(x))
