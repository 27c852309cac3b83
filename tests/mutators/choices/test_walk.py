"""Keys: where they come from, what they share, what they may refer to."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mutators import ChoiceError, InputChoice, LayerChoice, MutableScope
from mutators.choices.walk import decisions, walk
from tests.mutators import models


def layer(key: str | None = None, n: int = 2) -> LayerChoice:
    return LayerChoice([nn.Identity() for _ in range(n)], key=key)


def keys(model: nn.Module) -> list[str]:
    return [site.key for site in walk(model)]


EXPECTED = {
    "Mnist": ["first_conv", "mid_conv", "skip"],
    "Naive": ["conv1", "test_mask", "as_list", "optional", "mean", "concat"],
    "Nested": ["block", "block.a.inner", "block.b", "shared"],
    "SharedKeys": ["op", "op", "in", "in"],
    "Scopes": ["stem"] + [key for i in range(3) for key in (f"cell{i}", f"cells.{i}.op", f"cells.{i}.join")],
    "Darts": [
        "normal_n2_p0",
        "normal_n2_p1",
        "normal_n2_switch",
        "normal_n3_p0",
        "normal_n3_p1",
        "normal_n3_p2",
        "normal_n3_switch",
    ],
}


def test_keys_in_definition_order(name: str, model: nn.Module) -> None:
    assert keys(model) == EXPECTED[name]


def test_two_models_built_alike_have_the_same_keys(name: str) -> None:
    assert walk_without_modules(models.build(name)) == walk_without_modules(models.build(name))


def walk_without_modules(model: nn.Module) -> list[tuple]:
    return [(site.key, site.path, site.domain) for site in walk(model)]


def test_paths_are_those_of_torch(model: nn.Module) -> None:
    for site in walk(model):
        assert model.get_submodule(site.path) is site.mutable


def test_a_shared_key_is_one_decision(name: str, model: nn.Module) -> None:
    scopes = {"cell0", "cell1", "cell2"}
    assert list(decisions(walk(model))) == [key for key in dict.fromkeys(EXPECTED[name]) if key not in scopes]


def test_a_scope_has_no_domain() -> None:
    sites = {site.key: site for site in walk(models.build("Scopes"))}
    assert sites["cell0"].domain is None and sites["stem"].domain is not None


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel, lambda m: nn.DataParallel(AveragedModel(m))])
def test_wrappers_are_no_part_of_a_key(name: str, model: nn.Module, wrap: type) -> None:
    assert keys(wrap(model)) == EXPECTED[name]


def test_a_compiled_model_and_a_compiled_part_have_the_same_keys(name: str, model: nn.Module) -> None:
    assert keys(torch.compile(model, backend="eager")) == EXPECTED[name]
    part = nn.Sequential(torch.compile(nn.Sequential(layer()), backend="eager"))
    assert keys(part) == ["0.0"]


def test_module_counts_as_a_wrapper_only_where_it_is_alone() -> None:
    both = nn.ModuleDict({"module": layer(), "other": layer()})
    assert keys(nn.ModuleDict({"net": both})) == ["net.module", "net.other"]
    assert keys(nn.ModuleDict({"net": nn.ModuleDict({"module": layer()})})) == ["net"]


def test_names_of_candidates_are_never_taken_for_wrappers() -> None:
    block = LayerChoice({"module": nn.Sequential(layer())}, key="b")
    assert keys(nn.ModuleDict({"block": block})) == ["b", "block.module.0"]
    odd = LayerChoice({"_orig_mod": nn.Sequential(layer()), "candidates": nn.Sequential(layer())})
    assert keys(nn.ModuleDict({"block": odd})) == ["block", "block._orig_mod.0", "block.candidates.0"]

    class Scope(MutableScope):
        def __init__(self) -> None:
            super().__init__()
            self.module = layer()

    assert keys(nn.ModuleDict({"s": Scope()})) == ["s", "s.module"]


def test_missing_children_are_passed_over() -> None:
    model = nn.Sequential(layer())
    model.register_module("nothing", None)
    assert keys(model) == ["0"]


def test_a_root_that_is_a_choice_needs_a_key() -> None:
    for root in (layer(), InputChoice(2), nn.DataParallel(layer())):
        with pytest.raises(ChoiceError, match="has no path: give it key="):
            walk(root)
    assert keys(layer("k")) == ["k"]


def test_a_key_that_begins_with_an_underscore() -> None:
    for model in (nn.Sequential(layer("_k")), nn.ModuleDict({"_k": layer()})):
        with pytest.raises(ChoiceError, match="'_k' begins with _"):
            walk(model)


@pytest.mark.parametrize("other", [lambda: layer("k", 3), lambda: InputChoice(2, key="k"), lambda: MutableScope("k")])
def test_one_key_for_different_decisions(other: type) -> None:
    with pytest.raises(ChoiceError, match=r"key 'k' is layer_choice .* at '0' and .* at '1'"):
        walk(nn.Sequential(layer("k"), other()))


def test_a_path_may_not_meet_another_ones_key() -> None:
    with pytest.raises(ChoiceError, match="'1'"):
        walk(nn.Sequential(layer("1"), layer(n=3)))


def test_choose_from_refers_backwards() -> None:
    ok = nn.Sequential(layer("a"), MutableScope("s"), layer(), InputChoice(choose_from=["a", "s", "2", ""], key="i"))
    assert keys(ok) == ["a", "s", "2", "i"]
    for names in (["later"], ["i"], ["nowhere"]):
        with pytest.raises(ChoiceError, match=f"choose_from of 'i' has \\['{names[0]}'\\]"):
            walk(nn.Sequential(layer("a"), InputChoice(choose_from=names, key="i"), layer("later")))


def test_all_problems_at_once() -> None:
    with pytest.raises(ChoiceError) as caught:
        walk(nn.Sequential(layer("_a"), layer("b"), layer("b", 3), InputChoice(choose_from=["zzz"])))
    assert len(caught.value.problems) == 3
