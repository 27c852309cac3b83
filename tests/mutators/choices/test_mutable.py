"""What the choices are as modules, before anything steers them."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

import mutators
from mutators import ChoiceError, InputChoice, LayerChoice, MutableScope, apply_choices, search_space_of
from mutators.choices.selection import REDUCTIONS, combine


class Times(nn.Module):
    """Multiplies, and counts its calls."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.calls = factor, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.factor


def test_importing_the_package_costs_neither_torch_nor_nni() -> None:
    code = "import sys, mutators; print([m for m in ('torch', 'nni', 'numpy') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(mutators, name) is not None for name in mutators.__all__)
    assert set(mutators.__all__) <= set(dir(mutators))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mutators.nothing


class TestLayerChoice:
    def test_names_of_a_list_and_of_a_dict(self) -> None:
        assert LayerChoice([nn.Identity(), nn.Identity()]).names == ["0", "1"]
        assert LayerChoice({"b": nn.Identity(), "a": nn.Identity()}).names == ["b", "a"]

    @pytest.mark.parametrize("offered", [(nn.Identity(),), nn.ModuleList([nn.Identity()]), nn.Identity(), "ab", None])
    def test_other_containers_are_refused(self, offered: object) -> None:
        with pytest.raises(TypeError, match="wanted a list or a dict"):
            LayerChoice(offered)

    def test_candidates_that_are_no_modules_are_all_named(self) -> None:
        with pytest.raises(TypeError, match=r"'0' is the class ReLU, .*'2' is a NoneType") as caught:
            LayerChoice([nn.ReLU, nn.ReLU(), None])
        assert "'1'" not in str(caught.value)
        with pytest.raises(TypeError, match="the name 3 is a int"):
            LayerChoice({3: nn.ReLU()})

    def test_an_empty_choice_is_refused(self) -> None:
        for empty in ([], {}):
            with pytest.raises(ChoiceError, match="empty"):
                LayerChoice(empty)

    def test_names_that_no_module_can_have_are_all_named(self) -> None:
        with pytest.raises(ChoiceError) as caught:
            LayerChoice({"": nn.ReLU(), "a.b": nn.ReLU(), "fine": nn.ReLU()})
        assert len(caught.value.problems) == 2

    @pytest.mark.parametrize(
        "name",
        [
            "length",
            "reduction",
            "return_mask",
            "_key",
            "key",
            "names",
            "keys",
            "type",
            "forward",
            "training",
            "candidates",
            "_modules",
            "_parameters",
            "train",
            "__class__",
            "state_dict",
            "with space",
            "1",
            "*",
        ],
    )
    def test_no_name_is_reserved(self, name: str) -> None:
        choice = LayerChoice({name: nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), "other": nn.Linear(2, 2)}, key="k")
        model = nn.Sequential(choice)
        apply_choices(model, {"k": {"_value": name, "_idx": 0}})
        model.eval()
        assert not choice[name].training and not choice.training and not choice[name][1].training
        model.train()
        assert choice[name].training and choice.training and choice.candidates.training is True
        copied = copy.deepcopy(model)
        copied.load_state_dict(model.state_dict())
        assert f"0.candidates.{name}.0.weight" in model.state_dict()
        x = torch.ones(1, 2)
        assert torch.equal(copied.eval()(x), choice[name].eval()(x))
        assert model.double()(x.double()).dtype == torch.float64
        assert name in repr(model)

    def test_the_container_checks_its_mode_as_torch_does(self) -> None:
        with pytest.raises(ValueError, match="bool"):
            LayerChoice([nn.ReLU()]).candidates.train("yes")
        with pytest.raises(NotImplementedError):
            LayerChoice([nn.ReLU()]).candidates(1)

    def test_it_is_like_a_list(self) -> None:
        a, b, c = nn.ReLU(), nn.Identity(), nn.Tanh()
        choice = LayerChoice([a, b, c])
        assert len(choice) == 3 and list(choice) == [a, b, c]
        assert choice[0] is a and choice[-1] is c and choice["1"] is b and choice[1:] == [b, c]
        assert b in choice and "1" in choice and nn.ReLU() not in choice and "3" not in choice
        choice[1] = d = nn.Sigmoid()
        choice["2"] = e = nn.GELU()
        assert list(choice) == [a, d, e]
        with pytest.raises(IndexError):
            choice[3]
        with pytest.raises(KeyError, match="wanted one of"):
            choice["3"]

    def test_deleting_keeps_the_other_names(self) -> None:
        choice = LayerChoice([nn.ReLU() for _ in range(5)])
        del choice[1]
        assert choice.names == ["0", "2", "3", "4"]
        del choice["3"]
        assert choice.names == ["0", "2", "4"]
        del choice[1:]
        assert choice.names == ["0"] and choice.domain.names == ("0",)
        with pytest.raises(ChoiceError, match="no candidate left"):
            del choice[0]
        assert len(choice) == 1

    def test_bad_changes_change_nothing(self) -> None:
        choice = LayerChoice([nn.ReLU(), nn.ReLU()])
        before = list(choice)
        with pytest.raises(KeyError):
            choice["new"] = nn.ReLU()
        with pytest.raises(KeyError):
            del choice["new"]
        with pytest.raises(TypeError, match=r"wanted an nn\.Module"):
            choice[0] = 3
        assert list(choice) == before

    def test_a_deleted_candidate_is_no_longer_chosen(self) -> None:
        choice = LayerChoice([Times(2), Times(3), Times(4)], key="k")
        apply_choices(choice, {"k": {"_idx": 2}})
        del choice[0]
        assert choice(torch.ones(1)).item() == 4 and choice.chosen == (1,)
        del choice["2"]
        assert choice.chosen is None
        with pytest.raises(ChoiceError):
            choice(torch.ones(1))

    def test_deprecated_aliases(self) -> None:
        choice = LayerChoice([nn.ReLU(), nn.Tanh()])
        with pytest.warns(DeprecationWarning, match="choices is deprecated"):
            assert len(choice.choices) == 2
        with pytest.warns(DeprecationWarning, match="length is deprecated"):
            assert choice.length == 2

    def test_only_the_chosen_candidate_runs(self) -> None:
        choice = LayerChoice([Times(2), Times(3)], key="k")
        apply_choices(choice, {"k": {"_value": "1", "_idx": 1}})
        assert choice(torch.ones(1)).item() == 3
        assert [c.calls for c in choice] == [0, 1]

    def test_arguments_reach_the_candidate_as_they_are(self) -> None:
        class Affine(nn.Module):
            def forward(self, x: float, *, scale: float) -> float:
                return x * scale

        choice = LayerChoice([Affine()], key="k")
        apply_choices(choice, {"k": {"_idx": 0}})
        assert choice(3, scale=2) == 6

    @pytest.mark.parametrize("reduction", REDUCTIONS)
    def test_mask_and_reduction(self, reduction: str) -> None:
        choice = LayerChoice([Times(2), Times(3)], reduction, return_mask=True, key="k")
        apply_choices(choice, {"k": {"_idx": 1}})
        out, mask = choice(torch.ones(1))
        assert mask.tolist() == [False, True] and mask.dtype == torch.bool
        assert out == [torch.tensor([3.0])] if reduction == "none" else out.item() == 3


class TestInputChoice:
    @pytest.mark.parametrize(
        "arguments, said",
        [
            ({}, "neither n_candidates nor choose_from"),
            ({"n_candidates": 0}, "at least 1"),
            ({"n_candidates": True}, "at least 1"),
            ({"n_candidates": 2.0}, "at least 1"),
            ({"n_candidates": 2, "choose_from": ["a"]}, "choose_from has 1"),
            ({"choose_from": []}, "at least one key"),
            ({"choose_from": "ab"}, "at least one key"),
            ({"choose_from": [1]}, "at least one key"),
            ({"n_candidates": 2, "n_chosen": 3}, "0 to 2"),
            ({"n_candidates": 2, "n_chosen": -1}, "0 to 2"),
            ({"n_candidates": 2, "n_chosen": (2, 1)}, "0 to 2"),
            ({"n_candidates": 2, "n_chosen": (1, 2, 2)}, "wanted an int, two of them"),
            ({"n_candidates": 2, "n_chosen": "1"}, "wanted an int, two of them"),
            ({"n_candidates": 2, "n_chosen": True}, "wanted an int, two of them"),
        ],
    )
    def test_what_cannot_be(self, arguments: dict, said: str) -> None:
        with pytest.raises(ChoiceError, match=said):
            InputChoice(**arguments)

    def test_all_problems_at_once(self) -> None:
        with pytest.raises(ChoiceError) as caught:
            InputChoice(n_candidates=0, choose_from=[], n_chosen="all")
        assert len(caught.value.problems) == 3

    def test_names_and_bounds(self) -> None:
        choice = InputChoice(n_candidates=2)
        assert choice.choose_from == ["", ""] and choice.n_candidates == 2 and choice.domain.bounds == (0, 2)
        assert InputChoice(choose_from=["a", "", "b"], n_chosen=0).domain.bounds == (0, 0)
        assert InputChoice(3, n_chosen=[1, 2]).domain.bounds == (1, 2)
        assert InputChoice.NO_KEY == ""

    @pytest.mark.parametrize(
        "reduction, many", [("sum", [5.0]), ("mean", [2.5]), ("concat", None), ("none", [[2.0], [3.0]])]
    )
    def test_reduction(self, reduction: str, many: list | None) -> None:
        choice = InputChoice(3, reduction=reduction, key="k")
        x = [torch.tensor([[1.0]]), torch.tensor([[2.0]]), torch.tensor([[3.0]])]
        apply_choices(choice, {"k": {"_idx": [1, 2]}})
        out = choice(x)
        if reduction == "concat":
            assert out.tolist() == [[2.0, 3.0]]
        else:
            got = [t.flatten().tolist() for t in out] if reduction == "none" else out.flatten().tolist()
            assert got == many
        apply_choices(choice, {"k": {"_idx": [2]}})
        assert choice(x)[0] is x[2] if reduction == "none" else choice(x) is x[2]
        apply_choices(choice, {"k": {"_idx": []}})
        assert choice(x) == [] if reduction == "none" else choice(x) is None

    @pytest.mark.parametrize("reduction", REDUCTIONS)
    def test_a_selected_none_contributes_nothing(self, reduction: str) -> None:
        x = torch.ones(1, 1)
        assert combine([None, x, None], reduction) == [x] if reduction == "none" else combine([None, x], reduction) is x
        assert combine([None], reduction) == ([] if reduction == "none" else None)
        if reduction == "mean":
            assert combine([x, None, x * 3], reduction).item() == 2

    def test_masks(self) -> None:
        choice = InputChoice(3, return_mask=True, key="k")
        for chosen in ([], [0], [0, 2]):
            apply_choices(choice, {"k": {"_idx": chosen}})
            _, mask = choice([torch.ones(1)] * 3)
            assert torch.nonzero(mask).flatten().tolist() == chosen and mask.shape == (3,) and mask.dtype == torch.bool

    def test_a_dict_is_taken_in_the_order_of_choose_from(self) -> None:
        choice = InputChoice(choose_from=["a", "b"], n_chosen=1, key="k")
        choice.choose([1])
        assert choice({"b": 2, "a": 1}) == 2 and choice((1, 2)) == 2

    @pytest.mark.parametrize(
        "inputs, said",
        [
            ([1], "got 1 inputs, wanted 2"),
            ([1, 2, 3], "got 3 inputs"),
            (torch.ones(2), "got a Tensor"),
            (None, "got a NoneType"),
            ({"a": 1}, r"missing \['b'\]"),
            ({"a": 1, "b": 2, "c": 3}, r"unknown \['c'\]"),
        ],
    )
    def test_inputs_that_do_not_fit(self, inputs: object, said: str) -> None:
        choice = InputChoice(choose_from=["a", "b"], n_chosen=1, key="k")
        choice.choose([1])
        with pytest.raises(ChoiceError, match=said):
            choice(inputs)

    def test_a_dict_needs_names(self) -> None:
        choice = InputChoice(2, key="k")
        choice.choose([1])
        with pytest.raises(ChoiceError, match="give a list"):
            choice({"": 1})


@pytest.mark.parametrize("kind", [lambda **k: LayerChoice([nn.ReLU()], **k), lambda **k: InputChoice(1, **k)])
class TestBoth:
    def test_unknown_reduction(self, kind: type) -> None:
        with pytest.raises(ValueError, match="reduction is 'max', wanted one of sum, mean, concat, none"):
            kind(reduction="max")

    def test_nothing_chosen_says_what_to_do(self, kind: type) -> None:
        for choice in (kind(), kind(key="k")):
            with pytest.raises(ValueError, match=r"apply_choices.*get_and_apply_next_architecture.*RandomMutator"):
                choice([torch.ones(1)])

    def test_a_key_that_is_no_text_becomes_one_with_a_warning(self, kind: type) -> None:
        with pytest.warns(UserWarning, match="becomes the str '3'") as caught:
            assert kind(key=3).key == "3"
        assert len(caught) == 1

    def test_empty_key(self, kind: type) -> None:
        with pytest.raises(ChoiceError, match="key is empty"):
            kind(key="")

    def test_no_counter_in_keys(self, kind: type) -> None:
        first, second = nn.Sequential(kind(), kind()), nn.Sequential(kind(), kind())
        assert list(search_space_of(first)) == list(search_space_of(second)) == ["0", "1"]

    def test_a_key_by_path_is_known_once_the_model_is(self, kind: type) -> None:
        choice = kind()
        with pytest.raises(ChoiceError, match="keyed by its path"):
            _ = choice.key
        model = nn.Sequential(choice)
        apply_choices(model, {"0": {"_idx": 0 if isinstance(choice, LayerChoice) else [0]}})
        assert choice.key == "0"

    def test_copies_and_pickles_keep_the_choice(self, kind: type) -> None:
        choice = kind(key="k")
        choice.choose([0])
        x = torch.ones(1)
        stream = io.BytesIO()
        torch.save(choice, stream)
        stream.seek(0)
        pickled = pickle.loads(pickle.dumps(choice))  # noqa: S301
        for twin in (copy.deepcopy(choice), pickled, torch.load(stream, weights_only=False)):
            assert twin is not choice and twin.chosen == (0,) and twin.key == "k"
            assert torch.equal(twin([x]) if isinstance(twin, InputChoice) else twin(x), x)

    def test_repr_shows_the_key(self, kind: type) -> None:
        assert "key='k'" in repr(kind(key="k"))


def test_copied_candidates_are_copies() -> None:
    choice = LayerChoice([nn.Linear(1, 1)], key="k")
    assert copy.deepcopy(choice)[0].weight is not choice[0].weight


def test_a_scope_without_a_mutator_is_an_ordinary_module() -> None:
    class Scope(MutableScope):
        def forward(self, x: int) -> int:
            return x + 1

    assert Scope("s")(1) == 2 and Scope()(1) == 2 and Scope().domain is None
    assert search_space_of(Scope()) == {}
