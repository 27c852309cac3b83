"""Fault 32: a mutator that is a module; and names of ours that a subclass may have as well."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mutators import DartsMutator, InputChoice, LayerChoice, Mutator, RandomMutator, apply_choices, extract


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = LayerChoice([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.skip = InputChoice(n_candidates=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.skip([self.a(x), x])
        return out


def by_super(self: Any, model: nn.Module) -> None:
    super(type(self), self).__init__(model)


def one_after_the_other(self: Any, model: nn.Module) -> None:
    nn.Module.__init__(self)
    self.early = nn.Parameter(torch.ones(1))
    Mutator.__init__(self, model)


def the_other_way(self: Any, model: nn.Module) -> None:
    Mutator.__init__(self, model)
    nn.Module.__init__(self)


def make_learned(bases: tuple[type, ...], begin: Callable[[Any, nn.Module], None]) -> type:
    class Learned(*bases):  # type: ignore[misc]
        def __init__(self, model: nn.Module) -> None:
            begin(self, model)
            self.alpha = nn.Parameter(torch.zeros(2))
            self.controller = nn.LSTM(2, 2)

        def sample_search(self) -> Mapping[str, Tensor]:
            return {"a": torch.softmax(self.alpha, 0), "skip": torch.tensor([True, True])}

        def sample_final(self) -> Mapping[str, Tensor]:
            return {"a": torch.tensor([False, True]), "skip": torch.tensor([True, False])}

    return Learned


@pytest.mark.parametrize(
    ("bases", "begin"),
    [
        ((Mutator, nn.Module), by_super),
        ((Mutator, nn.Module), one_after_the_other),
        ((Mutator, nn.Module), the_other_way),
        ((nn.Module, Mutator), one_after_the_other),
        ((nn.Module, Mutator), the_other_way),
    ],
)
def test_a_mutator_is_a_module(bases: tuple[type, ...], begin: Callable[[Any, nn.Module], None]) -> None:
    model = Net()
    own = set(model.state_dict())
    mutator = make_learned(bases, begin)(model)
    assert mutator.model is model and model.a.mutator is mutator
    names = {name.partition(".")[0] for name in mutator.state_dict()}
    assert names == {"alpha", "controller"} | ({"early"} if begin is one_after_the_other else set())
    assert set(model.state_dict()) == own and all(p is not mutator.alpha for p in model.parameters())
    assert mutator.eval().training is False and model.training is True and mutator.train().training is True
    assert model.eval().training is False and mutator.training is True
    assert "controller" in repr(mutator) and "Learned" not in repr(model) and len(list(mutator.modules())) == 2
    optimizer = torch.optim.SGD(mutator.parameters(), lr=1.0)
    mutator.reset()
    model(torch.rand(3, 2)).square().sum().backward()
    optimizer.step()
    assert mutator.alpha.detach().abs().sum() > 0
    mutator.load_state_dict({name: torch.ones_like(value) for name, value in mutator.state_dict().items()})
    assert mutator.to(torch.float64).alpha.tolist() == [1.0, 1.0] and model.a[0].weight.dtype == torch.float32
    copied = copy.deepcopy(model)
    assert copied.a.mutator is mutator and copy.deepcopy(mutator) is mutator
    assert not hasattr(mutator, "nothing")
    mutator.release()
    mutator.release(copied)
    apply_choices(copied, {"a": {"_idx": 0}, "skip": {"_idx": [0]}})
    assert isinstance(extract(copied, {"a": {"_idx": 0}, "skip": {"_idx": [0]}}).a, nn.Linear)


def test_ours_are_modules_where_a_subclass_says_so() -> None:
    class Both(RandomMutator, nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__(model, seed=3)
            self.weight = nn.Parameter(torch.zeros(1))

    class Mixed(DartsMutator, nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__(model)
            self.weight = nn.Parameter(torch.zeros(1))

    random = Both(Net())
    state = random.state_dict()
    assert state.keys() == {"weight", "generator"}
    first = random.sample_search()
    random.load_state_dict(state)
    assert all(torch.equal(mask, first[key]) for key, mask in random.sample_search().items())
    darts = Mixed(model := Net())
    assert sorted(darts.state_dict()) == ["alphas.alpha_a", "weight"] and len(darts.parameters()) == 2
    darts.first_order_backward(lambda: model(torch.rand(1, 2)).sum())
    assert darts.alpha("a").grad is not None and darts.weight.grad is None


@pytest.mark.parametrize("name", ["parameters", "train", "state_dict", "cuda"])
def test_one_that_is_none_says_how_to_become_one(name: str) -> None:
    class Learned(Mutator):
        """As NNI's users write it, whose Mutator is a module."""

    mutator = Learned(Net())
    with pytest.raises(AttributeError, match=rf"Learned has no '{name}': .*class Learned\(\.\.\., nn.Module\)"):
        getattr(mutator, name)
    with pytest.raises(AttributeError, match=r"Learned has no 'nothing'\."):
        _ = mutator.nothing


def test_a_subclass_may_use_our_private_names() -> None:
    """``_sample`` is a method of NNI's ENAS mutator."""
    taken = [
        "_sample",
        "_picked",
        "_masks",
        "_sites",
        "_of",
        "_checked",
        "_draw",
        "_integer",
        "_layers",
        "_fresh",
        "_set",
    ]
    taken += ["_names", "_best", "_strongest", "_strength", "_tree"]
    for kind in (RandomMutator, DartsMutator):
        names = dict.fromkeys(taken, lambda self, *_: pytest.fail("called by ours"))

        def __init__(self: Any, model: nn.Module, kind: type = kind) -> None:
            for name in taken:
                setattr(self, name + "_own", None)
            kind.__init__(self, model)
            assert all(callable(getattr(self, name)) for name in taken)
            vars(self).update(dict.fromkeys(taken, "mine"))

        mutator = type("Own", (kind,), {**names, "__init__": __init__})(model := Net())
        for _ in range(3):
            mutator.reset()
            model(torch.rand(1, 2))
        assert mutator.export().keys() == {"a", "skip"} and mutator.chosen_indices(model.a) is not None
        assert [vars(mutator)[name] for name in taken] == ["mine"] * len(taken) and len(mutator.mutables) == 2
