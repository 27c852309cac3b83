"""DARTS: the mix, both gradients against closed forms, and what is exported."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mutators import (
    ChoiceError,
    DartsMutator,
    InputChoice,
    LayerChoice,
    RandomMutator,
    apply_choices,
    extract,
    search_space_of,
)
from mutators.mmrazor import DifferentiableEdge, DifferentiableOP
from mutators.unrolled import first_order_gradient, second_order_gradient
from search_spaces import Space


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0 * x


class Node(nn.Module):
    """Three inputs, each with a layer choice, two of which are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.ops = nn.ModuleList(
            LayerChoice({"none": Zero(), "two": Times(2.0), "three": Times(3.0)}, key=f"n_p{i}") for i in range(3)
        )
        self.switch = InputChoice(choose_from=[f"n_p{i}" for i in range(3)], n_chosen=2, key="n_switch")

    def forward(self, x: Tensor) -> Tensor:
        return self.switch([op(x) for op in self.ops])


def set_alpha(mutator: DartsMutator, values: dict[str, list[float]]) -> None:
    with torch.no_grad():
        for key, value in values.items():
            mutator.alpha(key).copy_(torch.tensor(value))


class TestParameters:
    def test_they_are_the_mutators_small_and_seeded(self) -> None:
        model = Node()
        before = set(model.state_dict())
        state = torch.get_rng_state(), random.getstate()
        mutator = DartsMutator(model, seed=3)
        assert torch.equal(torch.get_rng_state(), state[0])
        assert random.getstate() == state[1]
        assert set(model.state_dict()) == before
        assert [p.shape for p in mutator.parameters()] == [(3,)] * 3
        assert 0 < max(float(p.detach().abs().max()) for p in mutator.parameters()) < 5e-3
        again = DartsMutator(Node(), seed=3)
        other = DartsMutator(Node(), seed=4)
        assert all(torch.equal(a, b) for a, b in zip(mutator.parameters(), again.parameters(), strict=True))
        assert not torch.equal(mutator.parameters()[0], other.parameters()[0])

    def test_keys_may_be_paths_and_words(self) -> None:
        keys = ["a.b", "a%2Eb", "keys", "training", "alpha_keys"]
        model = nn.ModuleList([LayerChoice([nn.Identity(), Zero()], key=key) for key in keys])
        mutator = DartsMutator(model)
        assert len(mutator.alphas) == len(keys)
        assert len({id(mutator.alpha(key)) for key in keys}) == len(keys)
        mutator.alphas.load_state_dict(mutator.alphas.state_dict())

    def test_a_shared_key_has_one(self) -> None:
        model = nn.ModuleList([DifferentiableOP("same", {"a": Times(1.0), "b": Times(2.0)}) for _ in range(2)])
        assert len(DartsMutator(model).parameters()) == 1

    def test_ignore_is_a_list(self) -> None:
        with pytest.raises(TypeError, match="ignore is the text 'none'"):
            DartsMutator(Node(), ignore="none")


class TestForward:
    def test_it_is_the_softmax_mix_over_all_inputs(self) -> None:
        model = Node()
        mutator = DartsMutator(model)
        values = {f"n_p{i}": [0.1 * i, 0.2, -0.3] for i in range(3)}
        set_alpha(mutator, values)
        mutator.reset()
        mixes = [torch.softmax(torch.tensor(v), 0) @ torch.tensor([0.0, 2.0, 3.0]) for v in values.values()]
        assert torch.allclose(model(torch.ones(1)), torch.stack(mixes).sum())

    def test_gradients_reach_weights_and_architecture(self) -> None:
        model = Node()
        mutator = DartsMutator(model)
        mutator.reset()
        model(torch.ones(4)).sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in [*mutator.parameters(), *model.parameters()])


def quadratic(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Callable[[], Tensor], Callable[[], Tensor]]:
    """w (3,), a (2,); train = w'Qw/2 + w'Ba, valid = |w - t|^2/2 + a'Ca/2 + w'Da."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    w, a = draw(3).requires_grad_(), draw(2).requires_grad_()
    root, b, c, d, t = draw(3, 3), draw(3, 2), draw(2, 2), draw(3, 2), draw(3)
    return (
        w,
        a,
        lambda: w @ (root @ root.T) @ w / 2 + w @ b @ a,
        lambda: (w - t).square().sum() / 2 + a @ (c @ c.T) @ a / 2 + w @ d @ a,
    )


class TestGradients:
    @pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.9, 3e-2)])
    def test_second_order_equals_autograd_through_the_step(self, momentum: float, decay: float) -> None:
        w, a, train, valid = quadratic()
        optimizer = torch.optim.SGD([w], lr=0.1, momentum=momentum, weight_decay=decay)
        for _ in range(2):  # so that there is momentum
            optimizer.zero_grad()
            train().backward()
            optimizer.step()
        before = w.detach().clone()
        buffer = optimizer.state[w].get("momentum_buffer")
        loss, (gradient,) = second_order_gradient(train, valid, optimizer, [a])
        assert torch.equal(w, before)
        step = torch.autograd.grad(train(), w, create_graph=True)[0] + decay * w
        moved = w - 0.1 * (step + (0 if buffer is None else momentum * buffer))
        expected_loss = _with(valid, w, moved)
        assert torch.allclose(loss, expected_loss)
        assert torch.allclose(gradient, torch.autograd.grad(expected_loss, a)[0], rtol=1e-9, atol=1e-12)
        optimizer.step()  # with the grad of the loop, which was not touched

    def test_groups_have_rates_of_their_own(self) -> None:
        w, a, train, valid = quadratic()
        other = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
        frozen = torch.tensor([2.0], dtype=torch.float64)
        unused = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)

        def train2() -> Tensor:
            return train() + (other * a.sum() * frozen).sum() + other.square().sum()

        def valid2() -> Tensor:
            return valid() + (other - 1).square().sum() + unused.sum()

        groups = [{"params": [w]}, {"params": [other, frozen, unused], "lr": 0.5}]
        optimizer = torch.optim.SGD(groups, lr=0.1, weight_decay=0.1)
        _, (gradient,) = second_order_gradient(train2, valid2, optimizer, [a])
        steps = torch.autograd.grad(train2(), [w, other], create_graph=True)
        moved = [w - 0.1 * (steps[0] + 0.1 * w), other - 0.5 * (steps[1] + 0.1 * other)]
        loss = _with(valid, w, moved[0]) + (moved[1] - 1).square().sum()
        assert torch.allclose(gradient, torch.autograd.grad(loss, a)[0], rtol=1e-9, atol=1e-12)

    def test_first_order_is_the_partial_derivative(self) -> None:
        w, a, _, valid = quadratic()
        loss, (gradient,) = first_order_gradient(valid, [a])
        assert torch.equal(gradient, torch.autograd.grad(valid(), a)[0])
        assert loss == valid()
        assert w.grad is None

    def test_the_papers_example(self) -> None:
        """Liu et al., figure 2: valid = a w - 2 a + 1, train = w^2 - 2 a w + a^2; second order finds a = w = 1."""
        w = torch.tensor([-2.0], dtype=torch.float64, requires_grad=True)
        a = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=0.5)
        arch = torch.optim.SGD([a], lr=0.1)
        for _ in range(200):
            _, (a.grad,) = second_order_gradient(
                lambda: (w * w - 2 * a * w + a * a).sum(), lambda: (a * w - 2 * a + 1).sum(), optimizer, [a]
            )
            arch.step()
            optimizer.zero_grad()
            (w * w - 2 * a * w + a * a).sum().backward()
            optimizer.step()
        assert abs(a.item() - 1) < 1e-6
        assert abs(w.item() - 1) < 1e-6

    @pytest.mark.parametrize(
        ("optimizer", "message"),
        [
            (lambda p: torch.optim.Adam(p), "is a Adam, wanted torch.optim.SGD"),
            (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), "has nesterov"),
            (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1), "has dampening"),
        ],
    )
    def test_other_optimizers_are_refused(self, optimizer: Callable[..., torch.optim.Optimizer], message: str) -> None:
        model = Node()
        with pytest.raises(ValueError, match=message):
            DartsMutator(model).second_order_backward(lambda: 1 / 0, lambda: 1 / 0, optimizer(model.parameters()))


def _with(loss: Callable[[], Tensor], tensor: Tensor, value: Tensor) -> Tensor:
    """The loss with ``value`` for ``tensor``, differentiable in both."""
    names = {name: cell for name, cell in zip(loss.__code__.co_freevars, loss.__closure__ or (), strict=True)}
    cell = next(cell for cell in names.values() if cell.cell_contents is tensor)
    cell.cell_contents = value
    try:
        return loss()
    finally:
        cell.cell_contents = tensor


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = {"a": nn.Linear(4, 4), "b": nn.Sequential(nn.Linear(4, 4), nn.Tanh()), "none": Zero()}
        self.op, self.norm, self.head = LayerChoice(layers, key="op"), nn.BatchNorm1d(4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.op(x)))


class TestSteps:
    @pytest.mark.parametrize("order", [1, 2])
    def test_nothing_but_the_architectures_gradient_changes(self, order: int) -> None:
        torch.manual_seed(0)
        model, x = Normed(), torch.rand(8, 4)
        mutator = DartsMutator(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        arch = [p.detach().clone() for p in mutator.parameters()]
        loss = (
            mutator.first_order_backward(lambda: model(x).square().mean())
            if order == 1
            else mutator.second_order_backward(lambda: model(x).mean(), lambda: model(x).square().mean(), optimizer)
        )
        assert loss.shape == ()
        assert not loss.requires_grad
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())
        assert all(torch.equal(p, a) for p, a in zip(mutator.parameters(), arch, strict=True))
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in mutator.parameters())
        first = [p.grad.clone() for p in mutator.parameters() if p.grad is not None]
        mutator.first_order_backward(lambda: 0 * model(x).sum())
        assert all(p.grad is not None and not p.grad.any() for p in mutator.parameters())  # set, not added
        assert first

    def test_a_forgotten_reset_is_named(self) -> None:
        model = Node()
        mutator = DartsMutator(model)
        mutator.first_order_backward(lambda: model(torch.ones(1)).sum())
        with pytest.raises(ChoiceError, match=r"call reset\(\) before the model"):
            model(torch.ones(1))

    def test_weights_come_back_also_if_the_loss_fails(self) -> None:
        model, x = Normed(), torch.rand(8, 4)
        mutator = DartsMutator(model)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(ZeroDivisionError):
            mutator.second_order_backward(lambda: model(x).sum(), lambda: 1 / 0, optimizer)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    @pytest.mark.parametrize("order", [1, 2])
    def test_a_search_finds_the_better_layer(self, order: int) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(
            LayerChoice({"none": Zero(), "wrong": nn.Tanh(), "right": nn.Identity()}, key="op"), Times(1.0)
        )
        mutator = DartsMutator(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        arch = torch.optim.Adam(mutator.parameters(), lr=0.1)
        x = torch.linspace(-3, 3, 32)

        def loss() -> Tensor:
            return (model(x) - 2 * x).square().mean()

        for _ in range(50):
            if order == 1:
                mutator.first_order_backward(loss)
            else:
                mutator.second_order_backward(loss, loss, optimizer)
            arch.step()
            mutator.reset()
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
        assert mutator.export_choices() == {"op": {"_value": "right", "_idx": 2}}


class TestExport:
    def test_the_strongest_inputs_and_their_best_layers(self) -> None:
        model = Node()
        mutator = DartsMutator(model)
        set_alpha(mutator, {"n_p0": [9.0, 1.0, 2.0], "n_p1": [0.0, 3.0, 1.0], "n_p2": [0.0, 0.0, 1.0]})
        assert mutator.export_json() == {
            "n_p0": [False, False, False],  # "none" counts for nothing, so what is left of it is the weakest
            "n_p1": [False, True, False],
            "n_p2": [False, False, True],
            "n_switch": [False, True, True],
        }
        choices = mutator.export_choices()
        assert choices["n_p0"] == {"_value": "three", "_idx": 2}
        assert choices["n_switch"] == {"_value": ["n_p1", "n_p2"], "_idx": [1, 2]}
        mutator.release()
        apply_choices(model, choices)
        assert model(torch.ones(1)).item() == extract(model, choices)(torch.ones(1)).item() == 5.0

    def test_an_edge_that_one_of_two_keeps_is_kept(self) -> None:
        model = nn.ModuleDict(
            {
                **{n: LayerChoice({"a": nn.Identity(), "b": nn.Tanh()}, key=n) for n in ("p", "q", "r")},
                "one": InputChoice(choose_from=["p", "q"], n_chosen=1, key="one"),
                "two": InputChoice(choose_from=["q", "r"], n_chosen=1, key="two"),
            }
        )
        mutator = DartsMutator(model)
        set_alpha(mutator, {"p": [3.0, 0.0], "q": [2.0, 0.0], "r": [0.0, 0.0]})
        found = mutator.export_json()
        assert [found[n] for n in ("p", "q", "r")] == [[True, False], [True, False], [False, False]]

    def test_only_ignored_layers(self) -> None:
        model = nn.Sequential(LayerChoice({"none": Zero(), "zero": Zero()}, key="op"))
        mutator = DartsMutator(model)
        set_alpha(mutator, {"op": [0.0, 1.0]})
        assert mutator.export_choices()["op"]["_value"] == "zero"
        assert DartsMutator(Node(), ignore=()).ignore == frozenset()

    @pytest.mark.parametrize(("n_chosen", "expected"), [(None, [0, 1, 2]), ((1, 2), [0, 1]), (1, [0]), (3, [0, 1, 2])])
    def test_inputs_from_nowhere_are_the_weakest(self, n_chosen: object, expected: list[int]) -> None:
        ops = {"op": LayerChoice([nn.Identity(), nn.Tanh()], key="op")}
        switch = InputChoice(choose_from=["op", "", ""], n_chosen=n_chosen, key="in")
        mutator = DartsMutator(nn.ModuleDict({**ops, "switch": switch}))
        if len(expected) < 3:
            with pytest.warns(UserWarning, match=r"inputs \['', ''\] of 'in' come from no layer choice"):
                choices = mutator.export_choices()
        else:
            choices = mutator.export_choices()
        assert choices["in"]["_idx"] == expected

    def test_edges_as_in_mmrazor(self) -> None:
        layers = {"none": Zero(), "two": Times(2.0), "three": Times(3.0)}
        edges = {f"p{i}": DifferentiableOP(f"p{i}", layers) for i in range(3)}
        model = nn.ModuleDict({"node": DifferentiableEdge("node", edges, 2)})
        mutator = DartsMutator(model)
        mutator.reset()
        model["node"]([torch.ones(1)] * 3).sum().backward()
        assert all(p.grad is not None for p in mutator.parameters())
        set_alpha(mutator, {"p0": [0.0, 0.0, 9.0], "p1": [0.0, 0.0, 0.0], "p2": [0.0, 9.0, 0.0]})
        network = extract(model, mutator.export_choices())
        assert network["node"]([torch.ones(1)] * 3).item() == 5.0
        assert list(network.state_dict()) == ["node.p0.factor", "node.p2.factor"]

    def test_any_architecture_can_be_exported(self) -> None:
        model = Node()
        mutator = DartsMutator(model)
        space = Space.from_json(search_space_of(model))
        generator = torch.Generator().manual_seed(0)
        for _ in range(20):
            set_alpha(mutator, {f"n_p{i}": torch.randn(3, generator=generator).tolist() for i in range(3)})
            space.encode(mutator.export_choices())
        mutator.release()
        RandomMutator(model)
