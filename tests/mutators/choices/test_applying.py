"""The space of a model, and choices applied to it in place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from mutators import (
    ChoiceError,
    InputChoice,
    LayerChoice,
    RandomMutator,
    apply_choices,
    apply_fixed_architecture,
    search_space_of,
)
from search_spaces import Space
from tests.mutators import models

GOOD = {
    "first_conv": {"_value": "conv3x3", "_idx": 1},
    "mid_conv": {"_value": "0", "_idx": 0},
    "skip": {"_value": [""], "_idx": [1]},
}


def state(model: nn.Module) -> list[Any]:
    """What apply_choices may change."""
    return [(m, m.chosen) for m in model.modules() if isinstance(m, (LayerChoice, InputChoice))]


def test_the_space_is_that_of_nni_1_9() -> None:
    space = search_space_of(models.build("Mnist"))
    assert space == models.MNIST_SPACE and list(space) == list(models.MNIST_SPACE)


def test_every_space_is_valid_and_json(model: nn.Module) -> None:
    space = search_space_of(model)
    assert Space.from_json(json.loads(json.dumps(space))).to_json() == space


def test_n_chosen_in_the_space() -> None:
    model = nn.Sequential(InputChoice(2), InputChoice(2, n_chosen=1), InputChoice(2, n_chosen=(0, 1)))
    assert [entry["_value"]["n_chosen"] for entry in search_space_of(model).values()] == [None, 1, [0, 1]]


def test_a_model_without_choices() -> None:
    assert search_space_of(nn.ReLU()) == {}
    apply_choices(nn.ReLU(), {"lr": 0.1, "_uid": 3})
    with pytest.raises(ChoiceError, match="unknown 'k'"):
        apply_choices(nn.ReLU(), {"k": {"_idx": 0}})


def test_round_trips(name: str, model: nn.Module, drawn: Iterator[dict]) -> None:
    x = models.input_of(name)
    for choices in drawn:
        apply_choices(model, choices)
        for mutable in (m for m in model.modules() if isinstance(m, (LayerChoice, InputChoice))):
            index = choices[mutable.key]["_idx"] if mutable.key in choices else 0  # not chosen, so it is the first
            assert mutable.chosen == (tuple(index) if isinstance(index, list) else (index,))
        model.zero_grad()
        out = model(x)
        if out.requires_grad:  # a cell may be all pooling
            out.sum().backward()


def test_choices_decide_what_is_computed() -> None:
    model = models.build("Mnist").eval()
    x = models.input_of("Mnist")
    apply_choices(model, GOOD)
    h = torch.relu(model.conv1["conv3x3"](x))
    want = model.fc((h + model.bn(model.conv2(torch.relu(model.mid_conv[0](h))))).mean(dim=(2, 3)))
    assert torch.allclose(model(x), want)
    apply_choices(model, {**GOOD, "skip": {"_value": [""], "_idx": [0]}})
    assert not torch.allclose(model(x), want)


def test_only_what_was_chosen_gets_gradients() -> None:
    model = models.build("Mnist")
    apply_choices(model, GOOD)
    model(models.input_of("Mnist")).sum().backward()
    assert model.conv1["conv5x5"].weight.grad is None and model.mid_conv[1].weight.grad is None
    assert model.conv1["conv3x3"].weight.grad is not None and model.mid_conv[0].weight.grad is not None


def test_a_shared_key_sets_every_mutable() -> None:
    model = models.build("SharedKeys")
    apply_choices(model, {"op": {"_idx": 1}, "in": {"_idx": [1]}})
    assert [chosen for _, chosen in state(model)] == [(1,), (1,), (1,), (1,)]


def test_what_is_not_the_models_is_ignored() -> None:
    model = models.build("Mnist")
    apply_choices(model, {**GOOD, "_uid": 7, "_phase": {"_idx": 3}, "lr": 0.1, "opt": "sgd", "layers": [1, 2], "d": {}})


def test_value_may_be_left_out_and_order_does_not_matter() -> None:
    model = models.build("Naive")
    apply_choices(
        model,
        {key: {"_idx": 0} for key in ("conv1", "test_mask", "as_list")}
        | {"optional": {"_idx": []}, "mean": {"_idx": [2, 0]}, "concat": {"_idx": [1, 0], "_value": ["", "conv1"]}},
    )
    assert model.mean.chosen == (0, 2) and model.concat.chosen == (0, 1)


def test_a_misspelt_idx_is_read_with_a_warning() -> None:
    model = models.build("Mnist")
    with pytest.warns(UserWarning, match="'first_conv' has _idex"):
        apply_choices(model, {**GOOD, "first_conv": {"_value": "conv3x3", "_idex": 1}})
    assert model.conv1.chosen == (1,)
    with pytest.warns(UserWarning), pytest.raises(ChoiceError, match="out of range"):
        apply_choices(model, {**GOOD, "first_conv": {"_idex": 2}})


@pytest.mark.parametrize(
    "key, choice, said",
    [
        ("first_conv", {"_value": "conv3x3", "_idx": 2}, "_idx 2 is out of range"),
        ("first_conv", {"_idx": -1}, "out of range"),
        ("first_conv", {"_idx": True}, "wanted an integer"),
        ("first_conv", {"_idx": 1.0}, "wanted an integer"),
        ("first_conv", {"_idx": "1"}, "wanted an integer"),
        ("first_conv", {"_idx": [1]}, "wanted an integer"),
        ("first_conv", {"_value": "conv5x5", "_idx": 1}, "'conv5x5' does not belong to _idx 1"),
        ("first_conv", {"_value": "conv3x3"}, "without _idx"),
        ("first_conv", {"_idx": torch.tensor(1)}, "wanted an integer"),
        ("first_conv", {"_idx": np.array(0.5)}, "wanted an integer"),
        ("first_conv", {"_idx": 1, "_value": np.array(["conv3x3", "x"])}, "does not belong"),
        ("skip", {"_idx": [torch.tensor(1)]}, "wanted an integer"),
        ("first_conv", "conv3x3", "wanted {"),
        ("first_conv", 1, "wanted {"),
        ("first_conv", None, "wanted {"),
        ("skip", {"_value": "", "_idx": 1}, "list of indices"),
        ("skip", {"_value": ["", ""], "_idx": [0, 1]}, "2 inputs chosen, wanted exactly 1"),
        ("skip", {"_value": [], "_idx": []}, "0 inputs chosen"),
        ("skip", {"_value": ["", ""], "_idx": [1, 1]}, "only once"),
        ("skip", {"_value": ["x"], "_idx": [1]}, "does not belong"),
        ("skip", {"_value": [""], "_idx": [2]}, "out of range"),
        ("skip", {"_value": ["", ""], "_idx": [1]}, "list of 1 names"),
        ("skip", {"_value": [""], "_idx": [None]}, "wanted an integer"),
    ],
)
def test_a_bad_choice_is_named_and_changes_nothing(key: str, choice: Any, said: str) -> None:
    model = models.build("Mnist")
    apply_choices(model, GOOD)
    before = state(model)
    with pytest.raises(ChoiceError) as caught:
        apply_choices(model, {**GOOD, "mid_conv": {"_idx": 1}, key: choice})
    assert any(problem.startswith(repr(key)) and said in problem for problem in caught.value.problems)
    assert len(caught.value.problems) == (1 if "1, 1" not in str(choice) else 2)
    assert state(model) == before


def test_all_problems_at_once() -> None:
    model = models.build("Mnist")
    with pytest.raises(ChoiceError, match="4 wrong") as caught:
        apply_choices(model, {"first_conv": {"_idx": 9}, "skipp": {"_value": [""], "_idx": [0]}})
    assert caught.value.problems[:3] == ["missing 'mid_conv'", "missing 'skip'", "unknown 'skipp'"]
    assert [chosen for _, chosen in state(model)] == [None] * 3


@pytest.mark.parametrize("choices", [None, 3, "conv", [GOOD], [("first_conv", 1)]])
def test_choices_that_are_no_object(choices: Any) -> None:
    with pytest.raises(ChoiceError, match="wanted an object"):
        apply_choices(models.build("Mnist"), choices)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["_idx", "_value", "_idex", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(["", "0", "1", "conv3x3", "conv5x5"])
PAIRS = st.fixed_dictionaries(
    {"_idx": st.integers(-1, 2) | st.lists(st.integers(-1, 2), max_size=3) | JSON},
    optional={"_value": NAMES | st.lists(NAMES, max_size=3) | JSON},
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the choice of")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    garbage=st.dictionaries(
        st.sampled_from(["first_conv", "mid_conv", "skip", "other", "_uid"]) | st.integers(0, 1), PAIRS | JSON
    )
    | JSON
)
def test_any_garbage_either_fits_or_is_a_choice_error_and_changes_nothing(garbage: Any) -> None:
    apply_choices(MODEL, GOOD)
    before = state(MODEL)
    try:
        apply_choices(MODEL, garbage)
    except ChoiceError as error:
        assert error.problems or not isinstance(garbage, dict)
        assert state(MODEL) == before
    else:
        for mutable, chosen in state(MODEL):
            index = garbage[mutable.key].get("_idx", garbage[mutable.key].get("_idex"))
            assert chosen == (tuple(index) if isinstance(index, list) else (index,))


MODEL = models.build("Mnist")


class TestBound:
    def test_choices_are_refused_while_a_mutator_is_bound(self) -> None:
        model = models.build("Mnist")
        mutator = RandomMutator(model)
        for call in (apply_choices, apply_fixed_architecture):
            with pytest.raises(ChoiceError, match=r"release\(\)"):
                call(model, GOOD)
        assert [chosen for _, chosen in state(model)] == [None] * 3
        mutator.release()
        apply_choices(model, GOOD)

    def test_a_bound_part_is_enough(self) -> None:
        model = models.build("Mnist")
        RandomMutator(nn.Sequential(model.mid_conv))
        with pytest.raises(ChoiceError, match="mid_conv"):
            apply_choices(model, GOOD)


class TestApplyFixedArchitecture:
    @pytest.mark.parametrize(
        "fixed",
        [
            {"first_conv": 1, "mid_conv": 0, "skip": 1},
            {"first_conv": "conv3x3", "mid_conv": "0", "skip": [1]},
            {"first_conv": ["conv3x3"], "mid_conv": [0], "skip": [False, True]},
            {"first_conv": [False, True], "mid_conv": [True, False], "skip": [1], "_uid": 4},
            GOOD,
        ],
    )
    def test_every_notation(self, fixed: dict, tmp_path: Path) -> None:
        file = tmp_path / "arch.json"
        file.write_text(json.dumps(fixed))
        x = models.input_of("Mnist")
        wanted = models.build("Mnist").eval()
        apply_choices(wanted, GOOD)
        for given_as in (fixed, file, str(file)):
            model = models.build("Mnist").eval()
            chosen = model.conv1["conv3x3"]
            assert apply_fixed_architecture(model, given_as) == GOOD
            assert model.conv1 is chosen and not isinstance(model.mid_conv, LayerChoice)
            assert torch.equal(model(x), wanted(x))

    def test_choices_that_return_a_mask_or_a_list_stay(self) -> None:
        model = models.build("Naive")
        fixed = {"conv1": 0, "test_mask": 1, "as_list": "b", "optional": [], "mean": [0, 1], "concat": ["", "conv1"]}
        apply_fixed_architecture(model, fixed)
        assert isinstance(model.test_mask, LayerChoice) and isinstance(model.as_list, LayerChoice)
        assert isinstance(model.conv1, nn.Conv2d) and model.concat.chosen == (0, 1)
        model(models.input_of("Naive"))

    def test_every_place_of_a_choice_and_nested_ones(self) -> None:
        model = models.build("Nested")
        x = models.input_of("Nested")
        twin = models.build("Nested")
        fixed = {"block": "b", "block.a.inner": 1, "block.b": "y", "shared": 0}
        apply_choices(twin, apply_fixed_architecture(model, fixed))
        assert isinstance(model.block, nn.Conv2d) and model.again is model.block
        assert not any(isinstance(m, LayerChoice) for m in model.modules())
        assert torch.equal(model(x), twin(x))

    def test_a_root_cannot_be_replaced_but_is_fixed(self) -> None:
        root = LayerChoice([nn.Identity(), nn.Tanh()], key="k")
        apply_fixed_architecture(root, {"k": 1})
        assert torch.equal(root(torch.ones(1)), torch.ones(1).tanh())

    @pytest.mark.parametrize(
        "changes, said",
        [
            ({"first_conv": 2}, "out of range"),
            ({"first_conv": "conv7x7"}, "'conv7x7' is not in"),
            ({"first_conv": [0, 1]}, "chooses 2 candidates"),
            ({"first_conv": []}, "chooses 0 candidates"),
            ({"first_conv": [True, True]}, "chooses 2"),
            ({"first_conv": [True]}, "has 1 bools, wanted 2"),
            ({"first_conv": True}, "got True"),
            ({"first_conv": 0.0}, "got 0.0"),
            ({"first_conv": None}, "got None"),
            ({"first_conv": [True, 1]}, "got True"),
            ({"first_conv": {"_value": "conv3x3"}}, "without _idx"),
            ({"skip": ""}, "stands several times"),
            ({"skip": [0, 0]}, "only once"),
            ({"skip": [True, True]}, "wanted exactly 1"),
            ({"extra": 1}, "unknown 'extra'"),
            ({"extra": [True, False]}, "unknown 'extra'"),
        ],
    )
    def test_what_does_not_fit(self, changes: dict, said: str) -> None:
        model = models.build("Mnist")
        before = list(model.modules())
        with pytest.raises(ChoiceError) as caught:
            apply_fixed_architecture(model, {"first_conv": 0, "mid_conv": 0, "skip": 0, **changes})
        assert any(said in problem for problem in caught.value.problems), caught.value
        assert list(model.modules()) == before and [chosen for _, chosen in state(model)] == [None] * 3

    def test_all_problems_at_once(self) -> None:
        with pytest.raises(ChoiceError) as caught:
            apply_fixed_architecture(models.build("Mnist"), {"first_conv": "zzz", "skip": [5], "extra": 0})
        assert len(caught.value.problems) == 4  # with mid_conv missing

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "bad.json").write_text("{")
        (tmp_path / "list.json").write_text("[1]")
        (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
        for file, said in [("no", "cannot read"), ("bad", "is not JSON"), ("list", "object"), ("bytes", "UTF-8")]:
            with pytest.raises(ChoiceError, match=said):
                apply_fixed_architecture(models.build("Mnist"), tmp_path / f"{file}.json")
