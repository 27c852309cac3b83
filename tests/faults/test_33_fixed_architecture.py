"""Fault 33: ``apply_fixed_architecture(model, mutator.export())``, and whatever else users write there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mutators import ChoiceError, DartsMutator, InputChoice, LayerChoice, RandomMutator, apply_choices
from mutators import apply_fixed_architecture as fix


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = LayerChoice({"x": nn.Linear(2, 2), "y": nn.Linear(2, 2), "z": nn.Tanh()})
        self.b = LayerChoice([nn.Linear(2, 2), nn.ReLU()])
        self.pick = InputChoice(choose_from=["a", "b", ""], n_chosen=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pick([self.a(x), self.b(x), x])
        return out


Y, FIRST, ENDS = [False, True, False], [True, False], [True, False, True]
WANTED = {
    "a": {"_value": "y", "_idx": 1},
    "b": {"_value": "0", "_idx": 0},
    "pick": {"_value": ["a", ""], "_idx": [0, 2]},
}


def masks(make: Any) -> dict[str, Any]:
    return {"a": make(Y), "b": make(FIRST), "pick": make(ENDS)}


NOTATIONS: dict[str, dict[str, Any]] = {
    "bools": masks(list),
    "floats": masks(lambda mask: list(map(float, mask))),
    "tensors of bools": masks(torch.tensor),
    "tensors of floats": masks(lambda mask: torch.tensor(mask).float().requires_grad_()),
    "half": masks(lambda mask: torch.tensor(mask).to(torch.bfloat16)),
    "arrays of bools": masks(np.array),
    "arrays of floats": masks(lambda mask: np.array(mask, dtype=np.float32)),
    "lists of NumPy's": masks(lambda mask: list(np.array(mask))),
    "lists of tensors": masks(lambda mask: [torch.tensor(float(on)) for on in mask]),
    "tuples": masks(tuple),
    "indices": {"a": torch.tensor(1), "b": np.int64(0), "pick": torch.tensor([0, 2])},
    "names": {"a": np.array(["y"]), "b": "0", "pick": ("a", "")},
    "choices": WANTED,
}


@pytest.mark.parametrize("name", NOTATIONS)
def test_every_notation(name: str) -> None:
    assert fix(model := Net(), NOTATIONS[name]) == WANTED
    assert isinstance(model.a, nn.Linear) and model.pick.chosen == (0, 2)


@pytest.mark.parametrize("seed", range(5))
def test_the_export_of_a_random_mutator(seed: int) -> None:
    model, twin = Net(), Net()
    twin.load_state_dict(model.state_dict())
    mutator = RandomMutator(model, seed)
    mutator.reset()
    x = torch.rand(3, 2)
    wanted = model(x)
    apply = fix(twin, mutator.export())
    assert torch.equal(twin(x), wanted)
    mutator.release()
    apply_choices(model, apply)
    assert torch.equal(model(x), wanted)
    again = Net()
    assert fix(again, mutator.export_json()) == apply


@pytest.mark.filterwarnings("ignore:inputs")
@pytest.mark.parametrize("kept", ["a", "b"])
def test_the_export_of_darts_removes_layers_that_nothing_reads(kept: str) -> None:
    model, twin = Net(), Net()
    twin.load_state_dict(model.state_dict())
    for net in (model, twin):
        net.pick.n_chosen = 1
    mutator = DartsMutator(model)
    with torch.no_grad():
        mutator.alpha(kept)[0] = 9.0
    exported = mutator.export()
    lost = "b" if kept == "a" else "a"
    assert not exported[lost].any()
    choices = fix(twin, exported)
    layer = getattr(twin, kept)
    x = torch.rand(3, 2)
    assert torch.equal(twin(x), layer(x)) and sum(p.numel() for p in twin.parameters()) == 6
    mutator.release()
    apply_choices(model, choices)
    assert torch.equal(model(x), layer(x))


def test_a_layer_that_is_read_has_to_have_a_candidate() -> None:
    model = Net()
    with pytest.raises(ChoiceError, match="'a' has no candidate, but an input choice selects it"):
        fix(model, {**NOTATIONS["bools"], "a": [False] * 3})
    alone = nn.Sequential(LayerChoice([nn.Identity(), nn.Tanh()], key="k"))
    with pytest.raises(ChoiceError, match="chooses 0 candidates"):
        fix(alone, {"k": [False, False]})
    assert isinstance(model.a, LayerChoice) and isinstance(alone[0], LayerChoice)


@pytest.mark.parametrize("name", NOTATIONS)
def test_hyper_parameters_beside_it(name: str) -> None:
    assert fix(Net(), {**NOTATIONS[name], "lr": 0.1, "decay": None, "_uid": 3}) == WANTED


def test_what_a_tuner_proposes_holds_any_hyper_parameter() -> None:
    more = {"epochs": 3, "optimizer": "adam", "betas": [0.9, 0.99], "nested": {"_name": "b"}}
    assert fix(Net(), {**WANTED, **more}) == WANTED
    with pytest.raises(ChoiceError, match="unknown 'c'"):
        fix(Net(), {**WANTED, "c": {"_idx": 0}})


@pytest.mark.parametrize("more", [1, "x", [0], [True, False], torch.tensor([True]), {"_idx": 0}])
def test_among_names_and_indices_what_may_be_one_is_not_taken_for_a_hyper_parameter(more: Any) -> None:
    with pytest.raises(ChoiceError, match="unknown 'c'"):
        fix(Net(), {"a": "y", "b": 0, "pick": [0, 2], "c": more})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.tensor([0.2, 0.5, 0.3]), "are weights, wanted bools"),
        (torch.tensor([0, 1, 0]), "may be indices or a mask"),
        (np.array([0, 1, 0]), "may be indices or a mask"),
        (torch.tensor([[False, True, False]]), "wanted an index, a name"),
        (torch.tensor([False, True]), "has 2 bools, wanted 3"),
        ([0.0, 1.0], "has 2 numbers, wanted 3"),
        ([1.0, True, 0.0], "are weights, wanted bools"),
        (torch.tensor([True, True, False]), "chooses 2 candidates"),
        (torch.tensor(1.0), "got 1.0"),
    ],
)
def test_what_cannot_be_read_is_named(value: Any, said: str) -> None:
    with pytest.raises(ChoiceError) as caught:
        fix(Net(), {**WANTED, "a": value})
    assert said in str(caught.value)
