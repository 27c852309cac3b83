"""Placeholders, what they become, and that nothing else changes."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from mutators import ChoiceError, RandomMutator, apply_choices, extract, search_space_of
from mutators.mmrazor import DifferentiableEdge, DifferentiableOP, OneShotOP, Placeholder, convert_placeholders


def conv(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)


def not_annotated(**_: int):  # type: ignore[no-untyped-def]
    return nn.Identity()


def mapping() -> dict[str, Any]:
    """Two kernels, in the two ways of writing a candidate."""
    return {"all": {"type": OneShotOP, "choices": {"3x3": conv, "5x5": {"type": conv, "kernel": 5}}, "num_chosen": 1}}


def supernet(shared: bool = False) -> nn.Module:
    second = "one" if shared else "two"
    return nn.Sequential(
        Placeholder("all", "one", choice_args={"in_channels": 3, "out_channels": 4}),
        nn.ReLU(),
        Placeholder("all", second, choice_args={"in_channels": 4, "out_channels": 6, "stride": 2}),
    )


def kinds(model: nn.Module) -> list[str]:
    return [type(module).__name__ for module in model.modules()]


class TestPlaceholder:
    def test_calling_it_says_what_to_do(self) -> None:
        with pytest.raises(ChoiceError, match=r"group 'all', space_id 'one' was called.*convert_placeholders"):
            supernet()(torch.rand(1, 3, 4, 4))

    @pytest.mark.parametrize(("group", "space_id"), [("", "a"), ("a", None), (3, "a")])
    def test_bad_names_are_refused_where_they_stand(self, group: Any, space_id: Any) -> None:
        with pytest.raises(ChoiceError, match=r"this Placeholder cannot be:\n  (group|space_id) is .*wanted a text"):
            Placeholder(group, space_id)

    def test_its_modules_are_not_the_models(self) -> None:
        held = Placeholder("all", "one", choices={"a": nn.Linear(2, 2)})
        assert not list(held.parameters())
        assert "space_id='one'" in repr(held)


class TestConversion:
    def test_each_is_built_with_the_arguments_of_its_place(self) -> None:
        model = convert_placeholders(supernet(), mapping())
        assert [type(layer) for layer in model] == [OneShotOP, nn.ReLU, OneShotOP]
        shapes = [tuple(p.shape) for p in model.parameters()]
        assert shapes == [(4, 3, 3, 3), (4, 3, 5, 5), (6, 4, 3, 3), (6, 4, 5, 5)]
        assert model[2]["5x5"].stride == (2, 2)
        assert search_space_of(model) == {
            key: {"_type": "layer_choice", "_value": ["3x3", "5x5"]} for key in ("one", "two")
        }

    def test_the_mapping_is_only_read(self) -> None:
        used = mapping()
        before = copy.deepcopy(used)
        first, second = convert_placeholders(supernet(), used), convert_placeholders(supernet(), used)
        assert used == before
        assert [p.shape for p in first.parameters()] == [p.shape for p in second.parameters()]

    def test_the_model_itself_may_be_one(self) -> None:
        root = Placeholder("all", "root", choice_args={"in_channels": 3, "out_channels": 4})
        model = convert_placeholders(root, mapping())
        assert isinstance(model, OneShotOP)
        assert model.key == "root"

    def test_a_shared_space_id_is_one_decision_with_weights_of_its_own(self) -> None:
        model = convert_placeholders(supernet(shared=True), mapping())
        assert list(search_space_of(model)) == ["one"]
        apply_choices(model, {"one": {"_value": "5x5", "_idx": 1}})
        assert [model[0].chosen, model[2].chosen] == [(1,), (1,)]
        assert len(list(model.parameters())) == 4

    def test_one_placeholder_in_two_places_stays_one_module(self) -> None:
        held = Placeholder("all", "one", choice_args={"in_channels": 3, "out_channels": 3})
        model = convert_placeholders(nn.Sequential(held, held), mapping())
        assert model[0] is model[1]
        assert isinstance(model[0], OneShotOP)

    def test_placeholders_within_choices_are_converted_too(self) -> None:
        inner = {"choice_args": {"in_channels": 3, "out_channels": 3}}
        groups = {
            **mapping(),
            "outer": {
                "type": "OneShotOP",
                "choices": {
                    "deep": lambda: nn.Sequential(nn.ReLU(), Placeholder("all", "inner", **inner)),
                    "bare": partial(Placeholder, "all", "other", **inner),
                },
            },
        }
        model = convert_placeholders(nn.Sequential(Placeholder("outer", "outer")), groups)
        assert "Placeholder" not in kinds(model)
        assert list(search_space_of(model)) == ["outer", "inner", "other"]

    def test_the_mappings_choices_and_arguments_have_precedence(self) -> None:
        held = Placeholder("all", "x", choices={"own": conv}, choice_args={"in_channels": 3, "out_channels": 4})
        groups = mapping()
        groups["all"]["choice_args"] = {"out_channels": 8}
        model = convert_placeholders(nn.Sequential(held), groups)
        assert model[0].choices == ["3x3", "5x5"]
        assert model[0]["3x3"].out_channels == 8
        del groups["all"]["choices"]
        assert convert_placeholders(nn.Sequential(held), groups)[0].choices == ["own"]

    def test_modules_of_a_placeholder_are_used_as_they_are(self) -> None:
        layers = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Identity()})
        model = convert_placeholders(nn.Sequential(Placeholder("g", "x", layers)), {"g": {"type": DifferentiableOP}})
        assert model[0]["a"] is layers["a"]

    def test_names_of_functions_are_found(self) -> None:
        groups = {"g": {"type": "DifferentiableOP", "choices": {"a": {"type": "torch.nn:Linear", "bias": False}}}}
        args = {"in_features": 2, "out_features": 3}
        model = convert_placeholders(nn.Sequential(Placeholder("g", "x", choice_args=args)), groups)
        assert model[0]["a"].bias is None

    def test_a_target_of_ones_own(self) -> None:
        def twice(space_id: str, choices: dict[str, nn.Module], times: int) -> nn.Module:
            return nn.Sequential(*[OneShotOP(f"{space_id}.{i}", choices) for i in range(times)])

        groups = {"g": {"type": twice, "choices": {"a": nn.Identity}, "times": 2}}
        assert list(search_space_of(convert_placeholders(Placeholder("g", "x"), groups))) == ["x.0", "x.1"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no group": ({}, r"0 \(group 'all', space_id 'one'\): the group's entry in the mapping is missing"),
    "another group": ({"al": mapping()["all"]}, r"is missing: there is 'al'"),
    "no object": ({"all": OneShotOP}, "wanted an object"),
    "no type": ({"all": {"choices": {"a": nn.Identity}}}, r"2 \(group 'all', space_id 'two'\): type: it is missing"),
    "bad type": (
        {"all": {"type": "OneShot", "choices": {"a": nn.Identity}}},
        "type: it is 'OneShot', wanted .*'OneShotOP'",
    ),
    "no choices": ({"all": {"type": OneShotOP}}, "choices are missing, in the mapping and in the placeholder"),
    "unknown key": (
        {"all": {**mapping()["all"], "with_arch_param": True}},
        "takes no 'with_arch_param', only space_id",
    ),
    "unknown argument": (
        {"all": {"type": OneShotOP, "choices": {"a": {"type": nn.Conv2d, "kernel": 3}}}},
        "choice 'a': Conv2d lacks the argument 'kernel_size'",
    ),
    "no candidate": ({"all": {"type": OneShotOP, "choices": {"a": 3}}}, "choice 'a': it is 3, wanted a class"),
    "no such name": ({"all": {"type": OneShotOP, "choices": {"a": "torch.nn:Lin"}}}, "torch.nn has no Lin"),
    "a module": ({"all": {"type": OneShotOP, "choices": {"a": nn.ReLU()}}}, "would share: give its class"),
    "no module made": ({"all": {"type": OneShotOP, "choices": {"a": lambda **_: 3}}}, "returned a int"),
    "it fails": ({"all": {"type": OneShotOP, "choices": {"a": lambda **_: 1 / 0}}}, "ZeroDivisionError: division"),
    "no arguments": ({"all": {**mapping()["all"], "choice_args": [1]}}, r"choice_args are \[1\], wanted an object"),
    "no mapping": ([], r"the mapping is \[\], wanted an object"),  # type: ignore[dict-item]
    "two chosen": ({"all": {**mapping()["all"], "num_chosen": 2}}, "num_chosen=2, wanted 1"),
}


class TestErrors:
    @pytest.mark.parametrize("case", WRONG)
    def test_it_is_named_and_the_model_is_as_it_was(self, case: str) -> None:
        groups, message = WRONG[case]
        model = supernet()
        before = list(model.modules())
        with pytest.raises(ChoiceError, match=message):
            convert_placeholders(model, groups)
        assert [id(m) for m in model.modules()] == [id(m) for m in before]

    def test_all_at_once(self) -> None:
        model = nn.Sequential(
            Placeholder("a", "x"), Placeholder("b", "y", choices={"c": nn.Linear}), Placeholder("c", "z")
        )
        with pytest.raises(ChoiceError) as caught:
            convert_placeholders(model, {"b": {"type": OneShotOP}, "c": {"num_chosen": 1}})
        assert len(caught.value.problems) == 5
        said = str(caught.value)
        for part in (
            "'a'",
            "lacks the argument 'in_features'",
            "lacks the argument 'out_features'",
            "type: it is missing",
        ):
            assert part in said

    def test_a_missing_choice_argument(self) -> None:
        model = nn.Sequential(Placeholder("all", "one", choice_args={"in_channels": 3}))
        with pytest.raises(ChoiceError, match="choice '3x3': conv lacks the argument 'out_channels'"):
            convert_placeholders(model, mapping())

    def test_a_shared_space_id_with_other_choices(self) -> None:
        args = {"in_channels": 3, "out_channels": 3}
        model = nn.Sequential(Placeholder("all", "x", choice_args=args), Placeholder("b", "x", choice_args=args))
        with pytest.raises(ChoiceError, match="one space_id is one decision"):
            convert_placeholders(model, {**mapping(), "b": {"type": OneShotOP, "choices": {"3x3": conv}}})
        assert kinds(model) == ["Sequential", "Placeholder", "Placeholder"]

    def test_a_group_that_contains_itself(self) -> None:
        groups = {"g": {"type": OneShotOP, "choices": {"a": lambda: Placeholder("g", "x")}}}
        with pytest.raises(ChoiceError, match="does a group contain itself"):
            convert_placeholders(Placeholder("g", "x"), groups)

    def test_a_function_by_name_has_to_say_that_it_builds_a_module(self) -> None:
        groups = {"g": {"type": OneShotOP, "choices": {"a": f"{__name__}:not_annotated"}}}
        with pytest.raises(ChoiceError, match="annotate the function"):
            convert_placeholders(Placeholder("g", "x"), groups)


def linear(weight: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, weight)
    return layer


def edge(num_chosen: Any = 2) -> DifferentiableEdge:
    return DifferentiableEdge("e", {"a": linear(2.0), "b": linear(3.0), "c": linear(5.0)}, num_chosen)


class TestTargets:
    def test_names_and_numbers(self) -> None:
        op = OneShotOP("x", {"a": nn.Identity(), "b": nn.Identity()})
        assert (op.choices, op.num_chosen, op.key) == (["a", "b"], 1, "x")
        assert (edge().choices, edge().num_chosen, edge().key) == (["a", "b", "c"], 2, "e")
        assert search_space_of(nn.Sequential(edge()))["e"]["_value"] == {"candidates": ["a", "b", "c"], "n_chosen": 2}

    def test_before_a_choice_it_raises_and_does_not_sum(self) -> None:
        with pytest.raises(ChoiceError, match="called before anything was chosen"):
            OneShotOP("x", {"a": nn.Identity(), "b": nn.Identity()})(torch.ones(1))
        with pytest.raises(ChoiceError, match="called before anything was chosen"):
            edge()([torch.ones(1)] * 3)

    @pytest.mark.parametrize("kind", [OneShotOP, DifferentiableOP])
    def test_export_chooses_and_returns_the_layer_itself(self, kind: type[OneShotOP]) -> None:
        op = kind("x", {"ab": linear(2.0), "a": linear(3.0)})
        chosen = op.export("a")
        assert chosen is op["a"]
        assert op(torch.ones(1)).item() == 3.0
        assert op.export(["ab"]) is op["ab"]

    @pytest.mark.parametrize("bad", ["abc", "", ["a", "ab"], [], [["a"]], 7])
    def test_bad_names_fail_at_export(self, bad: Any) -> None:
        op = OneShotOP("x", {"ab": linear(2.0), "a": linear(3.0)})
        with pytest.raises(ChoiceError, match=r"'x': .*wanted"):
            op.export(bad)
        assert op.chosen is None

    def test_an_edge_runs_its_chosen_layers_on_their_own_inputs(self) -> None:
        chosen = edge()
        plain = chosen.export(["c", "a"])
        inputs = [torch.tensor([1.0]), torch.tensor([10.0]), torch.tensor([100.0])]
        assert chosen(inputs).item() == plain(inputs).item() == 502.0
        assert plain({"a": inputs[0], "b": inputs[1], "c": inputs[2]}).item() == 502.0
        assert list(plain.state_dict()) == ["a.weight", "c.weight"]
        assert chosen([inputs[0], inputs[1], None]).item() == 2.0
        with pytest.raises(ChoiceError, match="got 2 inputs, wanted 3"):
            plain(inputs[:2])

    @pytest.mark.parametrize("bad", ["a", ["a"], ["a", "b", "c"], ["a", "a"], ["a", "z"]])
    def test_edges_check_names_and_numbers(self, bad: Any) -> None:
        with pytest.raises(ChoiceError, match="'e': "):
            edge().export(bad)

    def test_an_edge_cannot_choose_more_than_there_are(self) -> None:
        with pytest.raises(ChoiceError, match="n_chosen is 4, wanted 0 to 3"):
            edge(4)

    def test_a_mutator_runs_only_what_it_draws(self) -> None:
        ran: list[str] = []
        model = nn.Sequential(edge(1))
        for name in "abc":
            model[0].candidates._modules[name].register_forward_hook(lambda *_, name=name: ran.append(name))
        mutator = RandomMutator(model, seed=0)
        for _ in range(10):
            mutator.reset()
            ran.clear()
            model([torch.ones(1)] * 3)
            (index,) = mutator.export()["e"].nonzero().flatten().tolist()
            assert ran == ["abc"[index]]

    def test_an_extracted_edge_holds_nothing_that_was_not_chosen(self) -> None:
        model = nn.ModuleDict({"node": edge()})
        choices = {"e": {"_value": ["b", "c"], "_idx": [1, 2]}}
        plain = extract(model, choices)
        assert list(plain.state_dict()) == ["node.b.weight", "node.c.weight"]
        apply_choices(model, choices)
        inputs = [torch.rand(1) for _ in range(3)]
        assert torch.equal(plain["node"](inputs), model["node"](inputs))
        assert copy.deepcopy(plain)["node"](inputs) == plain["node"](inputs)

    def test_edges_with_the_names_of_attributes(self) -> None:
        names = ["training", "inputs", "reduction", "forward"]
        model = DifferentiableEdge("e", {name: linear(1.0) for name in names}, 2)
        plain = model.export(["training", "inputs"])
        assert plain.train()([torch.ones(1)] * 4).item() == 2.0
