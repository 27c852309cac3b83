"""Which parameters are pruned, and which model is inside of what."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

from mutators.pruning import UnstructuredPruner
from tests.mutators.pruning import nets


class Owner(nn.Module):
    """Owns parameters; cannot run."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.ones(shape)))


class ChannelNorm(Owner):
    pass


class NormedLinear(nn.Linear):
    pass


class MyConv(Owner):
    pass


def pruned(model: nn.Module, **how: Any) -> list[str]:
    return list(UnstructuredPruner(model, **how).masks)


def test_biases_and_norms_of_any_dimensions_are_left_alone_also_by_static_masks() -> None:
    model = nn.ModuleDict(
        {
            "own": Owner(weight=(4, 4), bias=(1, 4, 1, 1), bias_k=(1, 1, 4), query_bias=(2, 2)),
            "norm": ChannelNorm(weight=(1, 4, 1, 1), bias=(1, 4, 1, 1)),
            "normed": NormedLinear(4, 4),
            "attention": nn.MultiheadAttention(4, 2, add_bias_kv=True),
        }
    )
    expected = ["own.weight", "normed.weight", "attention.in_proj_weight", "attention.out_proj.weight"]
    assert pruned(model) == expected
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    pruner = UnstructuredPruner(model)
    pruner.set_static_masks()
    nets.unprune(model)
    pruner.update_params()
    assert [name for name, zero in nets.zeros(model).items() if zero.any()] == expected


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_magnitudes_of_weight_norm_are_left_alone() -> None:
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(8, 8)),
        torch.nn.utils.weight_norm(nn.Linear(8, 8)),
        parametrizations.spectral_norm(nn.Linear(8, 8)),
    )
    pruner = nets.half_pruned(model)
    assert list(pruner.masks) == [
        "0.parametrizations.weight.original1",
        "1.weight_v",
        "2.parametrizations.weight.original",
    ]
    model(torch.ones(1, 8))
    assert sum(int((layer.weight == 0).sum()) for layer in model) == 96  # type: ignore[misc, operator, union-attr]


def test_what_counts_as_a_1x1_convolution() -> None:
    model = Owner(weight=(8, 3, 1, 1), factor=(1, 8, 1, 1), wide=(8, 3, 3, 3))
    parts = {
        "conv": nn.Conv2d(3, 8, 1),
        "back": nn.ConvTranspose2d(3, 8, 1),
        "mine": MyConv(weight=(8, 3, 1, 1)),
        "scale": Owner(weight=(8, 3, 1, 1)),
        "wider": nn.Conv2d(3, 8, 3),
    }
    for name, part in parts.items():
        model.add_module(name, part)
    assert pruned(model, prune_params_type="conv1x1_only") == ["weight", "conv.weight", "back.weight", "mine.weight"]
    UnstructuredPruner(model, ratio=0.5, prune_params_type="conv1x1_only").step()
    assert UnstructuredPruner.total_sparse_conv1x1(AveragedModel(model)) == 0.5


class Holder(nn.Module):
    """A user's own, whose only child has the name that wrappers use."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nets.small()


def test_only_known_wrappers_are_taken_off() -> None:
    assert pruned(Holder()) == [f"module.{name}" for name in nets.WEIGHTS]
    UnstructuredPruner(Holder(), skip_params_func=lambda _: {"module.own"})
    for wrap in (DataParallel, AveragedModel, lambda m: torch.compile(AveragedModel(m), backend="eager")):
        assert pruned(wrap(nets.small())) == nets.WEIGHTS  # type: ignore[arg-type, operator]
