"""Parts of weights as leaves: the same numbers as autograd's, whatever runs how often and in which order."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from mutators.choices.value_choice import ValueChoice
from mutators.elastic.layers import ElasticBatchNorm2d, ElasticConv2d, ElasticDepth, ElasticLinear
from mutators.elastic.layers.parts import Parts, part_of
from mutators.elastic.layers.width import Channels, Span, Width, take_block
from mutators.oneshot import TrainConfig, train_supernet
from mutators.pruning import UnstructuredPruner

ROWS, COLUMNS = 5, 4
Region = tuple[Span, Span]


class Weight(nn.Module):
    """One weight of whole numbers, so that sums do not depend on their order."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(ROWS * COLUMNS * 2.0).view(ROWS, COLUMNS, 2))


@st.composite
def regions(draw: st.DrawFn) -> Region:
    height, width = draw(st.integers(1, ROWS)), draw(st.integers(1, COLUMNS))
    return (draw(st.integers(0, ROWS - height)), height), (draw(st.integers(0, COLUMNS - width)), width)


def used(weight: torch.Tensor, regions: list[Region], factor: int) -> torch.Tensor:
    """A loss whose gradient is the squares' in each region, some times over."""
    parts = [take_block(weight, [rows], [columns]) for rows, columns in regions]
    return sum((factor * (part * part).sum() for part in parts), start=torch.zeros(()))


subnets = st.lists(st.lists(regions(), max_size=3), min_size=1, max_size=3)


# Steps of sub-networks of regions, which may be cut several times each; after some steps gradients are changed.
@settings(deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.lists(regions(), max_size=3), min_size=1, max_size=3), st.booleans()), max_size=5)
)
def test_gradients_are_autograds(steps: list[tuple[list[list[Region]], bool]]) -> None:
    mine, theirs = Weight(), Weight()
    parts = Parts(mine)
    for step, clipped in steps:
        mine.weight.grad = theirs.weight.grad = None
        for i, subnet in enumerate(step):
            if subnet:
                with parts:
                    loss = used(mine.weight, subnet, i + 1)
                loss.backward()
                used(theirs.weight, subnet, i + 1).backward()
            parts.gather()
        assert (mine.weight.grad is None) == (theirs.weight.grad is None)
        if mine.weight.grad is not None and theirs.weight.grad is not None:
            assert torch.equal(mine.weight.grad, theirs.weight.grad)
            if clipped:
                mine.weight.grad.mul_(-2)
        with torch.no_grad():  # numbers change between steps, and parts show it
            mine.weight += 1
            theirs.weight += 1


class Net(nn.Module):
    """Two elastic convolutions with norms, one of which may be left out, a layer that runs twice, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = ElasticConv2d(3, (2, 4, 6), (3, 5), padding=2)
        self.norm = ElasticBatchNorm2d(6)
        self.blocks = ElasticDepth([ElasticConv2d(6, 6, (1, 3, 5), groups=6, padding=2), nn.ReLU()], (1, 2))
        self.twice = ElasticConv2d(6, 8, 1)
        self.head = ElasticLinear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(torch.relu(self.norm(self.stem(x))))
        x = self.twice(x) + self.twice(x * 2)
        return self.head(x.mean((2, 3)))


def trained(parts: bool, pruned: bool = False, **config: Any) -> dict[str, torch.Tensor]:
    net = Net()
    generator = torch.Generator().manual_seed(1)
    batches = [
        (torch.randn(4, 3, 8, 8, generator=generator), torch.randint(3, (4,), generator=generator)) for _ in range(6)
    ]
    pruner = UnstructuredPruner(net, mode="ratio", ratio=0.5) if pruned else None
    options = TrainConfig(epochs=3, lr=0.1, **config)
    train_supernet(net, batches, options, parts=parts, pruner=pruner, progress=False)
    return net.state_dict()


@pytest.mark.parametrize(
    "config",
    [{}, {"strategy": "fair"}, {"clip_norm": 0.1, "strategy": "fair"}, {"optimizer": "adamw"}, {"pruned": True}],
    ids=str,
)
def test_a_training_by_parts_is_the_same_training(config: dict[str, Any]) -> None:
    whole, parts = trained(False, **config), trained(True, **config)
    assert all(torch.equal(parts[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize("reentrant", [False, True])
def test_activations_may_be_computed_again_in_the_backward(reentrant: bool) -> None:
    class Checkpointed(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(self.stem(x))  # a norm that runs twice would count twice
            x = checkpoint(self.blocks, x, use_reentrant=reentrant)
            return self.head(checkpoint(self.twice, x, use_reentrant=reentrant).mean((2, 3)))  # type: ignore[no-any-return]

    batches = [(torch.randn(4, 3, 8, 8), torch.randint(3, (4,))) for _ in range(6)]
    states = []
    for parts in (True, False):
        net = Checkpointed()
        train_supernet(net, batches, TrainConfig(epochs=2, lr=0.1), parts=parts, progress=False)
        states.append(net.state_dict())
    assert all(torch.equal(states[1][name], tensor) for name, tensor in states[0].items())


def step_of(net: nn.Module, x: torch.Tensor, parts: Parts) -> dict[str, torch.Tensor | None]:
    """Gradients after a forward and backward, with numbers that change then."""
    net.zero_grad()
    with parts:
        loss = net(x).square().sum()
    loss.backward()
    parts.gather()
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in net.named_parameters()}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.25
    return gradients


def assert_same(mine: dict[str, torch.Tensor | None], theirs: dict[str, torch.Tensor | None]) -> None:
    for name, gradient in theirs.items():
        own = mine[name]
        assert (own is None) == (gradient is None), name
        assert own is None or gradient is None or torch.equal(own, gradient), name


class Joined(nn.Module):
    """Channels of a concatenation: the first are chosen, the others there always."""

    def __init__(self) -> None:
        super().__init__()
        self.choice = ValueChoice((2, 4))
        layout = Channels((Width.of(self.choice, (2, 4)), 1), (3, 1))
        self.norm, self.conv = ElasticBatchNorm2d(layout), ElasticConv2d(layout, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(x))  # type: ignore[no-any-return]


def test_channels_of_a_concatenation_are_cut_as_before_in_every_step() -> None:
    mine = Joined()
    theirs, parts = copy.deepcopy(mine), Parts(mine)
    for chosen in (2, 2, 4, 2):
        x = torch.randn(2, chosen + 3, 4, 4)
        for net in (mine, theirs):
            net.choice.set(chosen)
        assert_same(step_of(mine, x, parts), step_of(theirs, x, Parts(None)))
        for name, kept in mine.named_buffers():
            assert torch.equal(kept, theirs.get_buffer(name)), name


def test_what_a_layer_cut_is_remembered_by_its_choices_and_input() -> None:
    mine = ElasticConv2d(6, 6, (1, 3, 5, 7), groups=6, padding=3)
    with torch.no_grad():
        for parameter in mine.parameters():  # matrices that are no identities: to transpose them makes a difference
            parameter += torch.randn_like(parameter)
    theirs, parts = copy.deepcopy(mine), Parts(mine)
    cut: dict[tuple[int, int], torch.Tensor | None] = {}
    for channels, kernel in [(6, 3), (4, 3), (4, 1), (6, 3), (4, 3), (6, 5), (6, 1)]:
        x = torch.randn(2, channels, 4, 4)
        for layer in (mine, theirs):
            layer.set_config(kernel_size=kernel)
        with parts:
            weight = mine._running(channels)[0]
        assert weight is not None and weight.is_leaf and weight.shape == (channels, 1, kernel, kernel)
        assert cut.setdefault((channels, kernel), weight) is weight
        assert_same(step_of(mine, x, parts), step_of(theirs, x, Parts(None)))


def test_a_layer_that_runs_twice_with_different_parts() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = ElasticConv2d(3, 6, (1, 3, 5), padding=2)
            self.depthwise = ElasticConv2d(6, 6, (1, 3, 5), groups=6, padding=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            total = torch.zeros(())
            for kernel in (1, 3, 5, 1):
                self.conv.set_config(kernel_size=kernel)
                self.depthwise.set_config(kernel_size=kernel)
                total = total + self.depthwise(self.conv(x)).square().sum()
            return total

    mine = Twice()
    with torch.no_grad():
        for layer in (mine.conv, mine.depthwise):  # small whole numbers: sums do not depend on their order
            layer.weight.copy_(torch.randint(-1, 2, layer.weight.shape))
            layer.bias.zero_()
    theirs, parts = copy.deepcopy(mine), Parts(mine)
    x = torch.randint(-2, 3, (1, 3, 2, 2)).float()
    for _ in range(2):
        gradients = []
        for net, own in ((mine, parts), (theirs, Parts(None))):
            net.zero_grad()
            with own:
                loss = net(x)
            loss.backward()
            own.gather()
            gradients.append({name: p.grad for name, p in net.named_parameters()})
        assert_same(*gradients)


def test_a_parameter_may_be_frozen_and_get_a_hook_between_steps() -> None:
    seen: list[torch.Size] = []
    mine, x = Net(), torch.randn(2, 3, 8, 8)
    theirs, parts = copy.deepcopy(mine), Parts(mine)
    for net in (mine, theirs):
        net.stem.set_config(channel=4, kernel_size=3)  # type: ignore[operator]
    assert_same(step_of(mine, x, parts), step_of(theirs, x, Parts(None)))
    for net in (mine, theirs):
        net.stem.weight.requires_grad_(False)
        net.norm.weight.register_hook(lambda gradient: seen.append(gradient.shape))
    gradients = step_of(mine, x, parts)
    assert gradients["stem.weight"] is None and seen == [mine.norm.weight.shape]
    assert_same(gradients, step_of(theirs, x, Parts(None)))


def test_hooks_see_the_gradient_of_the_whole_weight() -> None:
    seen: list[torch.Size] = []
    for register in ("register_hook", "register_post_accumulate_grad_hook"):
        net = Weight()
        getattr(net.weight, register)(lambda tensor: seen.append(tensor.shape))
        parts = Parts(net)
        with parts:
            assert part_of(net.weight, (0, 2, 0, 0)) is None
            loss = used(net.weight, [((0, 2), (0, 3))], 1)
        loss.backward()
        parts.gather()
    assert seen == [net.weight.shape] * 2


def test_what_is_not_handed_out() -> None:
    net, key = Weight(), (0, 2, 0, 0)
    assert part_of(net.weight, key) is None  # nothing is in force
    with Parts(net):
        assert part_of(net.weight, key) is not None
        assert part_of(nn.Parameter(torch.zeros(3)), key) is None  # of another model
        with torch.no_grad():
            assert part_of(net.weight, key) is None
        with Parts(None):
            assert part_of(net.weight, key) is None
        assert part_of(net.weight, key) is not None
    assert part_of(net.weight, key) is None


def test_what_ddp_looks_after_is_left_to_it(tmp_path: Path) -> None:
    net = Weight()
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        with Parts(nn.parallel.DistributedDataParallel(net)):
            assert part_of(net.weight, (0, 2, 0, 0)) is None
    finally:
        dist.destroy_process_group()


def test_a_weight_that_moved_is_cut_anew() -> None:
    net = Weight()
    parts = Parts(net)
    with parts:
        part_of(net.weight, (0, 2, 0, 0))
    net.weight.data = torch.full_like(net.weight, 7)
    with parts:
        part = part_of(net.weight, (0, 2, 0, 0))
    assert part is not None and (part == 7).all()


def test_a_loss_that_asks_for_gradients_itself_is_served_where_it_runs_the_model() -> None:
    net = Net()
    batch = (torch.randn(4, 3, 8, 8), torch.randint(3, (4,)))

    def with_penalty(model: nn.Module, given_: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        loss = F.cross_entropy(model(given_[0]), given_[1])
        wanted = [net.stem.weight, net.head.weight]
        return loss + sum(g.square().sum() for g in torch.autograd.grad(loss, wanted, create_graph=True))

    config = TrainConfig(epochs=1, lr=0.01)
    assert len(train_supernet(net, [batch] * 3, config, step=with_penalty, progress=False)) == 1
    with pytest.raises(RuntimeError, match="not have been used"):  # by parts it would find nothing
        train_supernet(net, [batch] * 3, config, step=with_penalty, parts=True, progress=False)
