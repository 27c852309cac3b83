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

from mutators.elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticDepth, ElasticLinear
from mutators.elastic.choice import ElasticChoice
from mutators.elastic.width import Channels, Span, Width, take_block
from mutators.oneshot import TrainConfig, train_supernet
from mutators.oneshot.parts import Parts, part_of
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
            parts.collect()
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


def test_channels_of_a_concatenation_are_cut_as_before() -> None:
    choice = ElasticChoice((2, 4))
    layout = Channels((Width.of(choice, (2, 4)), 1), (3, 1))
    net = nn.ModuleDict({"choice": choice, "conv": ElasticConv2d(layout, 5, 1), "norm": ElasticBatchNorm2d(layout)})
    other, parts, x = copy.deepcopy(net), Parts(net), torch.randn(2, 5, 4, 4)
    for one in (net, other):
        one["choice"].set(2)  # type: ignore[operator]
    with parts:
        loss = net["conv"](net["norm"](x)).square().sum()
    loss.backward()
    parts.collect()
    other["conv"](other["norm"](x)).square().sum().backward()
    for (name, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        assert p.grad is not None and q.grad is not None and torch.equal(p.grad, q.grad), name


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
        parts.collect()
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
