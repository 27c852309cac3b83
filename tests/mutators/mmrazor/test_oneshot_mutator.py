"""Subnets: each fault that is known of the forerunners has a test here."""

from __future__ import annotations

import copy
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mutators import ChoiceError, InputChoice, LayerChoice, RandomMutator, apply_choices, extract
from mutators.mmrazor import (
    DifferentiableEdge,
    OneShotMutator,
    OneShotOP,
    Placeholder,
    load_mutable_cfg,
    save_mutable_cfg,
)

OPTIONS = ("3x3", "5x5", "7x7", "x")


def block(channels: int, kernel: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, channels, kernel, padding=kernel // 2), nn.BatchNorm2d(channels))


MAPPING = {
    "all": {
        "type": OneShotOP,
        "choices": {name: {"type": block, "kernel": k} for name, k in zip(OPTIONS, (3, 5, 7, 1), strict=True)},
        "num_chosen": 1,
    }
}


class Net(nn.Module):
    """Three placeholders, two of which share a space_id, and an input choice; (N, 2, H, W) to the same."""

    def __init__(self) -> None:
        super().__init__()
        args = {"channels": 2}
        self.first = Placeholder("all", "first", choice_args=args)
        self.second = Placeholder("all", "both", choice_args=args)
        self.third = Placeholder("all", "both", choice_args=args)
        self.join = InputChoice(choose_from=["first", "both", ""], n_chosen=2, key="join")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.first(x)
        second = self.second(first)
        return self.join([first, second, self.third(second)])


def prepared(seed: int = 0) -> tuple[OneShotMutator, nn.Module]:
    torch.manual_seed(0)
    mutator = OneShotMutator(MAPPING, seed=seed)
    return mutator, mutator.prepare_from_supernet(Net())


def chain(n: int = 20) -> tuple[OneShotMutator, nn.Module]:
    model = nn.Sequential(*[LayerChoice({o: nn.Identity() for o in OPTIONS}) for _ in range(n)])
    mutator = OneShotMutator(seed=1)
    return mutator, mutator.prepare_from_supernet(model)


GOOD = {"first": {"chosen": ["5x5"]}, "both": {"chosen": ["x"]}, "join": {"chosen": ["both", "first"]}}


class TestPreparing:
    def test_the_space_is_the_projects(self) -> None:
        mutator, model = prepared()
        assert list(mutator.search_space) == ["first", "both", "join"]
        assert mutator.search_space == mutator.build_search_space(model)

    def test_a_root_placeholder_is_replaced(self) -> None:
        mutator = OneShotMutator(MAPPING)
        model = mutator.prepare_from_supernet(Placeholder("all", "x", choice_args={"channels": 2}))
        mutator.set_subnet({"x": {"chosen": ["3x3"]}})
        plain = mutator.deploy_subnet(model, {"x": {"chosen": ["3x3"]}})
        assert list(plain.state_dict())[:2] == ["0.weight", "0.bias"]

    def test_before_it_everything_says_so(self) -> None:
        mutator = OneShotMutator(MAPPING)
        calls = (mutator.sample_subnet, lambda: mutator.set_subnet({}), lambda: mutator.mutation({}))
        for call in (*calls, lambda: mutator.crossover({}, {})):
            with pytest.raises(ChoiceError, match=r"call prepare_from_supernet\(model\) first"):
                call()
        for call in (lambda: mutator.build_search_space(Net()), lambda: mutator.deploy_subnet(Net(), GOOD)):
            with pytest.raises(ChoiceError, match=r"3 placeholders are left, the first Placeholder\(group='all'"):
                call()

    def test_without_a_mapping_the_missing_group_is_named(self) -> None:
        with pytest.raises(ChoiceError, match="group's entry in the mapping is missing"):
            OneShotMutator().prepare_from_supernet(Net())


class TestSampling:
    def test_a_shared_space_id_has_one_sample(self) -> None:
        mutator, model = prepared()
        for _ in range(10):
            subnet = mutator.sample_subnet()
            mutator.set_subnet(subnet)
            assert model.second.chosen == model.third.chosen == (subnet["both"]["_idx"],)

    def test_it_is_uniform(self) -> None:
        mutator, _ = prepared()
        seen = Counter(
            (s["first"]["_idx"], s["both"]["_idx"], *s["join"]["_idx"])
            for s in (mutator.sample_subnet() for _ in range(4800))
        )
        assert len(seen) == 4 * 4 * 3
        chi_square = sum((n - 100) ** 2 / 100 for n in seen.values())
        assert chi_square < 82  # 0.1 % of 47 degrees of freedom

    def test_the_seed_is_owned(self) -> None:
        first, second = chain()[0], chain()[0]
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
        drawn = [first.sample_subnet() for _ in range(5)]
        child = first.mutation(first.crossover(drawn[0], drawn[1]), 0.5)
        assert random.getstate() == states[0]
        assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), states[2])
        random.seed(7)
        torch.manual_seed(7)
        again = [second.sample_subnet() for _ in range(5)]
        assert drawn == again
        assert child == second.mutation(second.crossover(again[0], again[1]), 0.5)


class TestSetting:
    def test_both_forms_and_short_ones(self) -> None:
        mutator, model = prepared()
        mutator.set_subnet(GOOD)
        assert (model.first.chosen, model.second.chosen, model.join.chosen) == ((1,), (3,), (0, 1))
        mutator.set_subnet(
            {"first": "3x3", "both": {"_value": "7x7", "_idx": 2}, "join": {"chosen": [2, 0]}, "lr": 0.1}
        )
        assert (model.first.chosen, model.second.chosen, model.join.chosen) == ((0,), (2,), (0, 2))

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"first": {"chosen": ["5x"]}}, "'first': the name '5x' is not in"),
            ({"first": {"chosen": "3x35x5"}}, "'first': the name '3x35x5' is not in"),
            ({"first": {"chosen": []}}, "'first': .* chooses 0 candidates"),
            ({"first": {"chosen": ["3x3", "5x5"]}}, "'first': .* chooses 2 candidates"),
            ({"first": {"chosen": {"3x3": 1}}}, "'first': chosen is"),
            ({"first": {"chosen": ["3x3"], "chozen": 1}}, "'first': got"),
            ({"join": {"chosen": ["first"]}}, "'join': 1 inputs chosen, wanted exactly 2"),
            ({"join": {"chosen": ["first", "first"]}}, "'join': .*only once"),
            ({"both": {"_value": "3x3", "_idx": 1}}, "'both': _value '3x3' does not belong to _idx 1"),
            ({"fist": {"chosen": ["3x3"]}}, "unknown 'fist'"),
        ],
    )
    def test_bad_names_fail_here_and_nothing_is_set(self, changed: dict[str, Any], message: str) -> None:
        mutator, model = prepared()
        mutator.set_subnet(GOOD)
        bad = {**GOOD, **changed}
        with pytest.raises(ChoiceError, match=message):
            mutator.set_subnet(bad)
        with pytest.raises(ChoiceError, match=message):
            mutator.deploy_subnet(model, bad)
        assert isinstance(model.first, OneShotOP)
        assert (model.first.chosen, model.second.chosen, model.join.chosen) == ((1,), (3,), (0, 1))

    def test_all_problems_at_once(self) -> None:
        mutator, _ = prepared()
        with pytest.raises(ChoiceError) as caught:
            mutator.set_subnet({"first": {"chosen": ["9x9"]}, "joint": {"chosen": ["x"]}})
        assert len(caught.value.problems) == 4  # both and join missing, joint unknown, 9x9 not on offer

    def test_a_text_is_one_name_and_no_pattern(self) -> None:
        model = nn.Sequential(OneShotOP("x", {"a": nn.Identity(), "ab": nn.Identity(), "b": nn.Identity()}))
        mutator = OneShotMutator()
        mutator.prepare_from_supernet(model)
        mutator.set_subnet({"x": {"chosen": "ab"}})
        assert model[0].chosen == (1,)

    def test_a_bound_mutator_is_refused(self) -> None:
        mutator, model = prepared()
        bound = RandomMutator(model)
        with pytest.raises(ChoiceError, match="RandomMutator is bound"):
            mutator.set_subnet(GOOD)
        with pytest.raises(ChoiceError, match="RandomMutator is bound"):
            mutator.deploy_subnet(model, GOOD)
        bound.release()
        mutator.set_subnet(GOOD)


class TestDeploying:
    def test_it_computes_exactly_what_the_supernet_did(self) -> None:
        x = torch.rand(2, 2, 8, 8)
        for seed in range(10):
            mutator, model = prepared(seed)
            subnet = mutator.sample_subnet()
            mutator.set_subnet(subnet)
            model.eval()
            masked, copied = model(x), extract(model, subnet)
            assert mutator.deploy_subnet(model, subnet) is model
            assert torch.equal(model(x), masked)
            assert torch.equal(copied(x), masked)
            assert list(model.state_dict()) == list(copied.state_dict())

    def test_its_names_are_plain_and_its_parameters_the_same_objects(self) -> None:
        mutator, model = prepared()
        kept = model.first["5x5"][0].weight
        mutator.deploy_subnet(model, GOOD)
        assert model.first[0].weight is kept
        assert {name.partition(".")[0] for name in model.state_dict()} == {"first", "second", "third"}
        assert not [name for name in model.state_dict() if "candidates" in name or "5x5" in name]
        assert sum(1 for m in model.modules() if isinstance(m, nn.Conv2d)) == 3

    def test_a_fresh_model_is_deployed_from_a_file_alone(self, tmp_path: Path) -> None:
        save_mutable_cfg(tmp_path / "cfg.yaml", GOOD)
        retrained = OneShotMutator(MAPPING)
        model = retrained.prepare_from_supernet(Net())
        network = retrained.deploy_subnet(model, load_mutable_cfg(tmp_path / "cfg.yaml"))
        network(torch.rand(2, 2, 8, 8)).sum().backward()
        with pytest.raises(ChoiceError, match="no supernet"):
            retrained.sample_subnet()

    @pytest.mark.parametrize("first", ["node", "again"])
    def test_nested_and_shared_choices_and_edges(self, first: str) -> None:
        inner = OneShotOP("inner", {"i": nn.Linear(1, 1), "j": nn.Identity()})
        outer = OneShotOP("outer", {"in": nn.Sequential(inner), "direct": inner})
        node = DifferentiableEdge(
            "edge", {"a": OneShotOP("a", {"u": nn.Linear(1, 1), "v": nn.Identity()}), "b": outer}, 1
        )

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name in sorted(("node", "again"), key=lambda name: name != first):
                    self.add_module(name, node if name == "node" else inner)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.node([x, 2 * x]) + self.again(x)

        mutator = OneShotMutator(seed=3)
        model = mutator.prepare_from_supernet(Model())
        x = torch.rand(3, 1)
        for _ in range(20):
            subnet, copied = mutator.sample_subnet(), copy.deepcopy(model)
            mutator.set_subnet(subnet)
            network = mutator.deploy_subnet(copied, subnet)
            assert torch.equal(network(x), model(x))
            assert network.state_dict().keys() == extract(model, subnet).state_dict().keys()
            assert not [m for m in network.modules() if isinstance(m, (LayerChoice, InputChoice))]

    def test_a_choice_that_another_one_chose(self) -> None:
        inner = OneShotOP("inner", {"i": nn.Linear(1, 1), "j": nn.Identity()})
        model = nn.Sequential(
            inner, OneShotOP("outer", {"direct": inner}), OneShotOP("top", {"x": nn.Sequential(inner)})
        )
        mutator = OneShotMutator()
        kept = mutator.prepare_from_supernet(model)[0]["i"]
        mutator.deploy_subnet(model, {"inner": "i", "outer": "direct", "top": "x"})
        assert model[0] is model[1] is model[2][0] is kept


class TestEvolving:
    def test_a_mutated_gene_always_changes(self) -> None:
        mutator, _ = prepared()
        for _ in range(200):
            parent = mutator.sample_subnet()
            child = mutator.mutation(parent, 1.0)
            assert all(child[key] != parent[key] for key in parent)
            assert all(child[key].keys() == {"_value", "_idx"} for key in child)

    def test_the_share_of_changed_genes_is_the_probability(self) -> None:
        mutator, _ = chain()
        parent = mutator.sample_subnet()
        before = copy.deepcopy(parent)
        changed = [
            sum(a != b for a, b in zip(parent.values(), mutator.mutation(parent).values(), strict=True))
            for _ in range(1000)
        ]
        assert 1.85 < sum(changed) / 1000 < 2.15  # 20 genes at 0.1; MMRazor's own are 1.5
        assert parent == before

    def test_what_it_draws_among_the_others_is_uniform(self) -> None:
        mutator, _ = chain(1)
        parent = {"0": {"chosen": ["5x5"]}}
        seen = Counter(mutator.mutation(parent, 1.0)["0"]["_value"] for _ in range(3000))
        assert set(seen) == {"3x3", "7x7", "x"}
        assert all(900 < n < 1100 for n in seen.values())

    def test_a_gene_without_an_alternative_stays(self) -> None:
        mutator = OneShotMutator()
        mutator.prepare_from_supernet(nn.Sequential(LayerChoice([nn.Identity()])))
        assert mutator.mutation({"0": "0"}, 1.0) == {"0": {"_value": "0", "_idx": 0}}

    def test_crossover_takes_each_gene_from_either_parent_and_shares_nothing(self) -> None:
        mutator, _ = prepared()
        first = mutator.sample_subnet()
        second = mutator.mutation(first, 1.0)
        parents = copy.deepcopy((first, second))
        counts = Counter()
        for _ in range(400):
            child = mutator.crossover(first, second)
            counts.update(key for key in child if child[key] == second[key])
            assert all(child[key] in (first[key], second[key]) for key in child)
            for choice in child.values():
                choice["_idx"] = -1  # a child is the caller's own
        for key in first:
            assert 150 < counts[key] < 250
        child = mutator.crossover(first, second)
        child["join"]["_idx"].append(99)
        assert (first, second) == parents

    def test_parents_in_the_short_form_and_bad_numbers(self) -> None:
        mutator, _ = prepared()
        assert mutator.crossover(GOOD, GOOD) == mutator.mutation(GOOD, 0.0)
        for call in (lambda: mutator.mutation(GOOD, 1.5), lambda: mutator.crossover(GOOD, GOOD, -1)):
            with pytest.raises(ValueError, match="wanted a number from 0 to 1"):
                call()


class TestFiles:
    def test_round_trip(self, tmp_path: Path) -> None:
        mutator, model = prepared()
        for _ in range(10):
            subnet = mutator.sample_subnet()
            save_mutable_cfg(tmp_path / "a.yaml", subnet | {"_uid": 3, "lr": 0.1})
            mutator.set_subnet(load_mutable_cfg(tmp_path / "a.yaml"))
            assert model.first.chosen == (subnet["first"]["_idx"],)
            assert list(model.join.chosen) == subnet["join"]["_idx"]

    def test_the_file_is_mmrazors(self, tmp_path: Path) -> None:
        save_mutable_cfg(tmp_path / "a.yaml", {"stage_0_block_0": {"_value": "shuffle_7x7", "_idx": 2}})
        assert (tmp_path / "a.yaml").read_text() == "stage_0_block_0:\n  chosen:\n  - shuffle_7x7\n"

    def test_names_that_look_like_something_else(self, tmp_path: Path) -> None:
        names = ["1", "no", "null", "1e3", "ü: #"]
        model = nn.Sequential(LayerChoice({name: nn.Identity() for name in names}))
        mutator = OneShotMutator()
        mutator.prepare_from_supernet(model)
        for index, name in enumerate(names):
            save_mutable_cfg(tmp_path / "a.yaml", {"0": {"_value": name, "_idx": index}})
            mutator.set_subnet(load_mutable_cfg(tmp_path / "a.yaml"))
            assert model[0].chosen == (index,)

    def test_repeated_names_are_written_as_indices(self, tmp_path: Path) -> None:
        model = nn.ModuleList([InputChoice(4, n_chosen=2, key="in")])
        mutator = OneShotMutator()
        mutator.prepare_from_supernet(model)
        save_mutable_cfg(tmp_path / "a.yaml", {"in": {"_value": ["", ""], "_idx": [1, 3]}})
        mutator.set_subnet(load_mutable_cfg(tmp_path / "a.yaml"))
        assert model[0].chosen == (1, 3)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: {chosen: [b}", "is not YAML"),
            ("", "holds None, wanted keys"),
            ("- a", "wanted keys, each with"),
            ("a: {chosen: 3}\nb: [c]", r"no mutable_cfg:\n  'a' is .*\n  'b' is"),
            ("!!python/object/apply:os.system [true]", "is not YAML"),
        ],
    )
    def test_bad_files_are_named(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(ChoiceError, match=message):
            load_mutable_cfg(tmp_path / "a.yaml")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ChoiceError, match=r"cannot read the mutable_cfg .*a.yaml: No such file"):
            load_mutable_cfg(tmp_path / "a.yaml")

    def test_nothing_is_written_of_what_is_no_choice(self, tmp_path: Path) -> None:
        with pytest.raises(ChoiceError, match="these are no choices:\n  'a'"):
            save_mutable_cfg(tmp_path / "a.yaml", {"a": {"picked": "b"}})
        assert not list(tmp_path.iterdir())

    def test_apply_choices_takes_what_the_mutator_returns(self) -> None:
        mutator, model = prepared()
        subnet = mutator.sample_subnet()
        apply_choices(model, subnet)
        assert model.first.chosen == (subnet["first"]["_idx"],)
