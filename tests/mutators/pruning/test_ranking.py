"""Which weights go first, against definitions that are slow and plain."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mutators.pruning import GMPUnstructuredPruner, UnstructuredPruner
from tests.mutators.pruning import nets

LEVELS = st.integers(-3, 3)  # few, so that many magnitudes are equal
SHAPES = st.sampled_from([(1, 1), (3, 2), (4, 5), (5, 3, 2), (2, 3, 2, 2), (7, 4, 1, 1)])


class Tensors(nn.Module):
    """Parameters of given content; cannot run."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        super().__init__()
        self.items = nn.ParameterList(tensors)


@st.composite
def models(draw: st.DrawFn) -> Tensors:
    shapes = draw(st.lists(SHAPES, min_size=1, max_size=3))
    sizes = [torch.Size(shape).numel() for shape in shapes]
    contents = [draw(st.lists(LEVELS, min_size=n, max_size=n)) for n in sizes]
    return Tensors([torch.tensor(c).float().view(s) / 2 for c, s in zip(contents, shapes, strict=True)])


RATIOS = st.floats(0, 0.99)


def flat(model: nn.Module) -> list[float]:
    return [abs(float(x)) for parameter in model.parameters() for x in parameter.detach().flatten()]


def kept(pruner: UnstructuredPruner) -> list[bool]:
    return [bool(x) for mask in pruner.masks.values() for x in mask.flatten()]


@settings(deadline=None)
@given(models(), RATIOS)
def test_global_the_largest_stay_and_ties_go_by_index(model: Tensors, ratio: float) -> None:
    magnitudes = flat(model)
    pruner = UnstructuredPruner(model, ratio=ratio)
    pruner.step()
    order = sorted(range(len(magnitudes)), key=lambda i: (magnitudes[i], i))
    gone = set(order[: round(ratio * len(magnitudes))])
    assert kept(pruner) == [i not in gone for i in range(len(magnitudes))]
    assert [x for x, keep in zip(flat(model), kept(pruner), strict=True) if not keep] == [0] * len(gone)


@settings(deadline=None)
@given(models(), RATIOS)
def test_local_is_global_of_each(model: Tensors, ratio: float) -> None:
    alone = [Tensors([p.detach().clone()]) for p in model.parameters()]
    together = UnstructuredPruner(model, ratio=ratio, local_sparsity=True)
    each = [UnstructuredPruner(one, ratio=ratio) for one in alone]
    for pruner in (together, *each):
        pruner.step()
    assert kept(together) == [keep for pruner in each for keep in kept(pruner)]


@settings(deadline=None)
@given(models(), RATIOS)
def test_compatible_keeps_what_is_at_least_the_weight_of_that_rank(model: Tensors, ratio: float) -> None:
    magnitudes = flat(model)
    limit = sorted(magnitudes)[max(0, round(ratio * len(magnitudes)) - 1)]
    pruner = UnstructuredPruner(model, ratio=ratio, paddle_compatible=True)
    pruner.step()
    assert kept(pruner) == [magnitude >= limit for magnitude in magnitudes]


def blocks_of(weight: torch.Tensor, m: int, n: int) -> list[torch.Tensor]:
    """Index masks of the blocks, row by row."""
    found = []
    for top in range(0, weight.shape[0], m):
        for left in range(0, weight.shape[1], n):
            index = torch.zeros(weight.shape, dtype=torch.bool)
            index[top : top + m, left : left + n] = True
            found.append(index)
    return found


@settings(deadline=None)
@given(models(), RATIOS, st.integers(1, 3), st.integers(1, 3))
def test_blocks_of_the_largest_means_stay(model: Tensors, ratio: float, m: int, n: int) -> None:
    if (m, n) == (1, 1):
        m = 2
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    blocks = [(name, index) for name, weight in weights.items() for index in blocks_of(weight, m, n)]
    scores = [float(weights[name][index].abs().double().mean()) for name, index in blocks]
    budget = round(ratio * sum(weight.numel() for weight in weights.values()))
    expected = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    for place in sorted(range(len(blocks)), key=lambda i: (round(scores[i], 5), i)):
        name, index = blocks[place]
        budget -= int(index.sum())
        if budget < 0:
            break
        expected[name][index] = False
    pruner = UnstructuredPruner(model, ratio=ratio, sparse_block=(m, n))
    pruner.step()
    assert all(torch.equal(mask, expected[name]) for name, mask in pruner.masks.items())


def test_signs_cancel_in_a_block_only_if_compatible() -> None:
    weight = torch.tensor([[5.0, -5.0, 1.0, 1.0, 9.0, 9.0]])
    for compatible, expected in ((False, [1, 1, 0, 0, 1, 1]), (True, [0, 0, 1, 1, 1, 1])):
        pruner = UnstructuredPruner(
            Tensors([weight.clone()]), ratio=0.5, sparse_block=[1, 2], paddle_compatible=compatible
        )
        pruner.step()
        assert pruner.masks["items.0"].int().tolist() == [expected]


@settings(max_examples=50, deadline=None)
@given(models(), RATIOS, st.booleans(), st.sampled_from([(1, 1), (2, 1), (2, 3)]), st.booleans(), st.integers(0, 99))
def test_sparsity_never_falls_and_ends_at_the_target(
    model: Tensors, ratio: float, local: bool, block: tuple[int, int], compatible: bool, seed: int
) -> None:
    configs = {"stable_iterations": 1, "pruning_iterations": 6, "pruning_steps": 3, "initial_ratio": ratio / 2}
    pruner = GMPUnstructuredPruner(
        model, ratio, None, None, local, block, configs=configs, paddle_compatible=compatible
    )
    generator = torch.Generator().manual_seed(seed)
    masks = [pruner.masks]
    for _ in range(10):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        pruner.step()
        masks.append(pruner.masks)
    assert all(not (later[name] & ~before[name]).any() for before, later in pairwise(masks) for name in later)
    groups = [[name] for name in masks[-1]] if local else [list(masks[-1])]
    for group in groups:
        size = sum(masks[-1][name].numel() for name in group)
        gone = sum(int((~masks[-1][name]).sum()) for name in group)
        slack = 1 if block == (1, 1) else max(block[0] * block[1] * masks[-1][name][0, 0].numel() for name in group)
        assert abs(gone - ratio * size) <= slack + compatible
        assert compatible or block != (1, 1) or gone == round(ratio * size)


def test_a_threshold_prunes_what_is_below() -> None:
    model = Tensors([torch.tensor([[0.5, -0.1, 0.2, -0.3]])])
    pruner = UnstructuredPruner(model, mode="threshold", threshold=0.2)
    pruner.step()
    assert pruner.masks["items.0"].tolist() == [[True, False, True, True]]
    with torch.no_grad():
        model.items[0].copy_(torch.tensor([[0.1, 9.0, 9.0, -0.2]]))
    pruner.step()
    assert pruner.masks["items.0"].tolist() == [[False, False, True, True]]


def test_a_ratio_may_rise_and_reopens_nothing_when_it_falls() -> None:
    model = nets.reference()
    pruner = UnstructuredPruner(model, ratio=0.5)
    counts = []
    for ratio in (0.5, 0.7, 0.3, 0.0):
        pruner.ratio = ratio
        pruner.step()
        counts.append(nets.count(pruner))
    assert counts == [1144, 1602, 1602, 1602]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_widths(dtype: torch.dtype) -> None:
    model = nets.small().to(dtype)
    pruner = nets.half_pruned(model)
    assert nets.count(pruner) == round(0.5 * (18 + 45 + 315 + 42))
    nets.unprune(model)
    pruner.update_params()
    assert all(torch.equal(~nets.zeros(model)[name], mask) for name, mask in pruner.masks.items())
