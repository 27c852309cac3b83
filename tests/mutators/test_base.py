"""Mutators: what is bound to what, and what a sample runs."""

from __future__ import annotations

import copy
import pickle
from collections import Counter

import pytest
import torch
from torch import nn

from mutators import (
    BaseMutator,
    ChoiceError,
    InputChoice,
    LayerChoice,
    MutableScope,
    Mutator,
    RandomMutator,
    ValueChoice,
    apply_choices,
    apply_fixed_architecture,
    search_space_of,
)
from search_spaces import Space
from tests.mutators import models
from tests.mutators.choices.test_walk import EXPECTED


class Given(Mutator):
    """Runs the sample that it is given."""

    def __init__(self, model: nn.Module, sample: object) -> None:
        super().__init__(model)
        self.sample = sample

    def sample_search(self) -> object:
        return self.sample

    sample_final = sample_search


def pair() -> nn.ModuleDict:
    """Two layers, x * 2 and x * 3, as "op"; two inputs as "in"."""
    two, three = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(two.weight, 2.0)
    nn.init.constant_(three.weight, 3.0)
    return nn.ModuleDict({"op": LayerChoice([two, three]), "in": InputChoice(2)})


class TestBinding:
    def test_a_shared_key_stands_where_it_is_first(self) -> None:
        layers = [LayerChoice([nn.Identity()], key=key) for key in ("a", "b", "a")]
        mutator = BaseMutator(nn.Sequential(*layers))
        assert [m.key for m in mutator.mutables] == ["a", "b"]
        assert mutator.mutables[0] is layers[0]

    def test_mutables_and_keys(self, name: str, model: nn.Module) -> None:
        mutator = BaseMutator(model)
        assert [m.key for m in mutator.undedup_mutables] == EXPECTED[name]
        assert [m.key for m in mutator.mutables] == list(dict.fromkeys(EXPECTED[name]))
        first = {m.key: m for m in reversed(mutator.undedup_mutables)}
        assert all(m is first[m.key] and m.mutator is mutator for m in mutator.mutables)

    def test_a_second_mutator_is_refused(self, model: nn.Module) -> None:
        mutator = BaseMutator(model)
        with pytest.raises(RuntimeError, match=r"BaseMutator is bound to this model already .*release\(\)"):
            RandomMutator(model)
        with pytest.raises(RuntimeError):
            RandomMutator(copy.deepcopy(model))
        assert all(m.mutator is mutator for m in mutator.mutables)

    def test_a_mutator_is_no_part_of_the_model(self, model: nn.Module) -> None:
        names = list(model.state_dict())
        mutator = RandomMutator(model)
        assert list(model.state_dict()) == names and not isinstance(mutator, nn.Module)

    def test_a_released_model_has_its_applied_choices_again(self) -> None:
        model = models.build("Mnist")
        choices = {"first_conv": {"_idx": 1}, "mid_conv": {"_idx": 1}, "skip": {"_idx": [0]}}
        apply_choices(model, choices)
        before = model(models.input_of("Mnist"))
        mutator = RandomMutator(model)
        with pytest.raises(ChoiceError, match=r"reset\(\)"):
            model(models.input_of("Mnist"))
        mutator.release()
        assert torch.equal(model(models.input_of("Mnist")), before)
        RandomMutator(model)

    def test_a_copied_model_is_steered_by_the_same_mutator(self) -> None:
        model = pair()
        mutator = Given(model, {"op": torch.tensor([True, False]), "in": torch.tensor([True, True])})
        twin = copy.deepcopy(model)
        mutator.reset()
        nn.init.constant_(twin["op"][0].weight, 5.0)
        x = torch.ones(1)
        assert twin["op"](x).item() == 5 and model["op"](x).item() == 2
        mutator.release()
        assert twin["op"](x).item() == 5
        mutator.release(twin)
        with pytest.raises(ChoiceError, match="apply_choices"):
            twin["op"](x)

    def test_a_pickle_has_no_mutator(self) -> None:
        model = pair()
        RandomMutator(model)
        twin = pickle.loads(pickle.dumps(model))  # noqa: S301
        assert twin["op"].mutator is None and model["op"].mutator is not None
        RandomMutator(twin)

    def test_one_that_says_nothing_says_so(self) -> None:
        model = pair()
        BaseMutator(model)
        for key, inputs in (("op", torch.ones(1)), ("in", [1, 2])):
            with pytest.raises(NotImplementedError, match="BaseMutator does not say"):
                model[key](inputs)
        for call in (Mutator(pair()).reset, Mutator(pair()).export):
            with pytest.raises(NotImplementedError, match="has no sample_"):
                call()

    def test_what_a_mutator_of_ones_own_gets_and_gives(self) -> None:
        class Own(BaseMutator):
            def on_forward_layer_choice(self, mutable: LayerChoice, *args: object, **kwargs: object) -> tuple:
                return (mutable.key, args, kwargs), torch.tensor([True])

            def on_forward_input_choice(self, mutable: InputChoice, tensor_list: list) -> tuple:
                return (mutable.key, tensor_list), torch.tensor([False])

        model = nn.ModuleDict(
            {"a": LayerChoice([nn.ReLU()]), "b": InputChoice(choose_from=["a", "c"][:1], return_mask=True)}
        )
        Own(model)
        assert model["a"](1, scale=2) == ("a", (1,), {"scale": 2})
        out, mask = model["b"]({"a": 3})
        assert out == ("b", [3]) and mask.tolist() == [False]


class TestScopes:
    def test_hooks_run_round_forward_also_if_it_raises(self) -> None:
        events = []

        class Scope(MutableScope):
            def forward(self, fail: bool) -> None:
                events.append("forward")
                if fail:
                    raise ArithmeticError

        class Own(BaseMutator):
            def enter_mutable_scope(self, mutable_scope: MutableScope) -> None:
                events.append(f"enter {mutable_scope.key}")

            def exit_mutable_scope(self, mutable_scope: MutableScope) -> None:
                events.append(f"exit {mutable_scope.key}")

        model = nn.Sequential(Scope("s"))
        mutator = Own(model)
        model(False)
        with pytest.raises(ArithmeticError):
            model(True)
        assert events == ["enter s", "forward", "exit s"] * 2
        mutator.release()
        model(False)
        assert events[6:] == ["forward"]


class TestSamples:
    def test_a_bool_mask_runs_only_what_it_chooses(self) -> None:
        model = pair()
        calls: list[int] = []
        for i, candidate in enumerate(model["op"]):
            candidate.register_forward_hook(lambda *_, i=i: calls.append(i))
        Given(model, {"op": torch.tensor([False, True]), "in": torch.tensor([False, True])}).reset()
        assert model["op"](torch.ones(1)).item() == 3 and calls == [1]
        assert model["in"]([1, 2]) == 2

    def test_several_are_reduced(self) -> None:
        for reduction, want in (("sum", 5.0), ("mean", 2.5)):
            model = pair()
            model["op"].reduction = reduction
            Given(model, {"op": torch.tensor([True, True]), "in": torch.tensor([False, False])}).reset()
            assert model["op"](torch.ones(1)).item() == want and model["in"]([1, 2]) is None

    def test_a_float_mask_weighs_and_skips_zeros(self) -> None:
        model = pair()
        calls: list[int] = []
        model["op"][0].register_forward_hook(lambda *_: calls.append(0))
        Given(model, {"op": torch.tensor([0.0, 0.5]), "in": torch.tensor([0.25, 1.0])}).reset()
        assert model["op"](torch.ones(1)).item() == 1.5 and calls == []
        assert model["in"]([torch.tensor(4.0), torch.tensor(1.0)]).item() == 2.0
        assert model["in"]([None, torch.tensor(1.0)]).item() == 1.0

    def test_gradients_flow_into_a_float_mask(self) -> None:
        model = pair()
        alpha = {"op": nn.Parameter(torch.zeros(2)), "in": nn.Parameter(torch.zeros(2))}

        class Darts(Mutator):
            def sample_search(self) -> dict:
                return {key: torch.softmax(value, 0) for key, value in alpha.items()}

        mutator = Darts(model)
        mutator.reset()
        x = torch.ones(1)
        out = model["in"]([model["op"](x), 2 * x])
        out.sum().backward()
        assert out.item() == pytest.approx(0.5 * 2.5 + 0.5 * 2)
        # d out / d softmax(op) = 0.5 * (2, 3); through the softmax at (1/2, 1/2)
        assert alpha["op"].grad.tolist() == pytest.approx([-0.125, 0.125])
        assert alpha["in"].grad.abs().sum() > 0

    def test_masks_are_bool_and_as_long_as_the_candidates(self) -> None:
        model = nn.ModuleDict({"op": LayerChoice([nn.ReLU(), nn.Tanh()], return_mask=True)})
        for sample in (torch.tensor([False, True]), torch.tensor([0.0, 0.3])):
            mutator = Given(model, {"op": sample})
            mutator.reset()
            _, mask = model["op"](torch.ones(1))
            assert mask.tolist() == [False, True] and mask.dtype == torch.bool
            mutator.release()

    def test_a_bad_sample_is_refused_as_a_whole(self) -> None:
        good = {"op": torch.tensor([True, False]), "in": torch.tensor([True, False])}
        mutator = Given(pair(), good)
        mutator.reset()
        mutator.sample = {"op": torch.tensor([1, 0]), "other": torch.ones(2)}
        with pytest.raises(ChoiceError, match=r"Given.sample_search\(\) does not fit") as caught:
            mutator.reset()
        assert len(caught.value.problems) == 3
        for wrong in (torch.ones(3), torch.ones(1, 2), [True, False], None, torch.ones(2, dtype=torch.complex64)):
            mutator.sample = {**good, "in": wrong}
            with pytest.raises(ChoiceError, match=r"'in': got .*wanted a bool or float tensor of shape \(2,\)"):
                mutator.reset()
            with pytest.raises(ChoiceError, match="sample_final"):
                mutator.export()
        mutator.sample = [1]
        with pytest.raises(ChoiceError, match="returned a list"):
            mutator.reset()
        assert mutator.model["op"](torch.ones(1)).item() == 2  # the last good one counts

    def test_export_json(self) -> None:
        mutator = Given(pair(), {"op": torch.tensor([True, False]), "in": torch.tensor([0.5, 0.0])})
        assert mutator.export_json() == {"op": [True, False], "in": [0.5, 0.0]}


class TestFormerName:
    """``on_elastic_choice``, as ``on_forward_value_choice`` was called."""

    def test_a_subclass_that_writes_it_still_steers(self) -> None:
        with pytest.warns(DeprecationWarning, match="Last.on_elastic_choice is deprecated"):

            class Last(BaseMutator):
                def on_elastic_choice(self, mutable: ValueChoice) -> int:
                    return len(mutable.values) - 1

        class Further(Last):
            pass

        choice = ValueChoice((7, 5, 3), key="k")
        for kind in (Last, Further):
            mutator = kind(choice)
            assert choice.value == 3
            mutator.release()

    def test_a_subclass_may_call_its_parents(self) -> None:
        class Base(RandomMutator):
            pass

        with pytest.warns(DeprecationWarning):

            class Noting(Base):
                def on_elastic_choice(self, mutable: ValueChoice) -> int:
                    return super().on_elastic_choice(mutable)

        choice = ValueChoice((3, 5), key="k")
        mutator = Noting(choice)
        mutator.reset()
        assert (choice.index,) == mutator.chosen_indices(choice) == choice.chosen

    def test_one_that_says_nothing_is_an_error(self) -> None:
        choice = ValueChoice((3, 5), key="k")
        BaseMutator(choice)
        with pytest.raises(NotImplementedError, match="what a value choice does"):
            _ = choice.value


class TestRandomMutator:
    def test_twenty_rounds_of_training(self, name: str, model: nn.Module) -> None:
        mutator = RandomMutator(model, seed=3)
        x = models.input_of(name)
        for _ in range(20):
            model.zero_grad()
            mutator.reset()
            out = model(x)
            if out.requires_grad:
                out.sum().backward()

    def test_what_it_draws_is_in_the_space(self, name: str, model: nn.Module) -> None:
        space = Space.from_json(search_space_of(model))
        mutator = RandomMutator(model)
        for _ in range(50):
            mutator.reset()
            masks = mutator.export_json()
            indices = {key: [i for i, on in enumerate(mask) if on] for key, mask in masks.items()}
            choices = {
                key: {"_idx": chosen if space.domains[key].type == "input_choice" else chosen[0]}
                for key, chosen in indices.items()
            }
            assert space.problems(choices) == []
            assert all(len(i) == 1 for key, i in indices.items() if space.domains[key].type == "layer_choice")

    def test_an_export_is_an_architecture_that_can_be_fixed(self, name: str, model: nn.Module) -> None:
        x = models.input_of(name)
        mutator = RandomMutator(model.eval(), seed=5)
        mutator.reset()
        out, exported = model(x), mutator.export_json()
        mutator.release()
        apply_fixed_architecture(model, exported)
        assert torch.equal(model(x), out)

    def test_the_seed_is_its_own(self) -> None:
        def run(seed: int, disturb: bool) -> list:
            mutator = RandomMutator(models.build("Darts"), seed)
            drawn = []
            for i in range(10):
                if disturb:
                    torch.manual_seed(i)
                mutator.reset()
                drawn.append(mutator.export_json())
            return drawn

        assert run(0, False) == run(0, True) != run(1, False)
        model, before = pair(), torch.get_rng_state()
        RandomMutator(model).reset()
        assert torch.equal(torch.get_rng_state(), before)

    def test_distribution(self) -> None:
        model = nn.ModuleDict(
            {"any": InputChoice(3), "two": InputChoice(3, n_chosen=2), "range": InputChoice(4, n_chosen=(0, 2))}
        )
        model["layer"] = LayerChoice([nn.ReLU() for _ in range(3)])
        mutator = RandomMutator(model)
        counts = {key: Counter() for key in ("any", "two", "range", "layer")}
        for _ in range(3000):
            for key, mask in mutator.sample_search().items():
                counts[key][sum(mask.tolist()) if key == "range" else tuple(mask.tolist())] += 1
        for key, kinds in {"any": 8, "two": 3, "range": 3, "layer": 3}.items():
            assert len(counts[key]) == kinds
            assert all(abs(n - 3000 / kinds) < 5 * (3000 / kinds) ** 0.5 for n in counts[key].values()), counts[key]

    def test_final_is_what_ran_last(self) -> None:
        mutator = RandomMutator(models.build("Darts"))
        assert mutator.export().keys() == mutator.domains.keys()
        mutator.reset()
        assert mutator.export_json() == mutator.export_json()
