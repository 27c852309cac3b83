"""Multiply-adds against closed formulas; and what is not known is never zero."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from mutators import apply_choices
from mutators.costs import count_macs, count_params
from mutators.costs.count import macs_by_module
from search_spaces.errors import CostError
from tests.search_spaces.nets.models import small, space_of


def _conv(**changed: object) -> nn.Module:
    return nn.Conv2d(**({"in_channels": 8, "out_channels": 12, "kernel_size": 3} | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (_conv(), (8, 10, 9), 8 * 12 * 9 * 8 * 7),
        (_conv(stride=2, padding=1), (8, 10, 9), 8 * 12 * 9 * 5 * 5),
        (_conv(dilation=2), (8, 10, 9), 8 * 12 * 9 * 6 * 5),
        (_conv(groups=4), (8, 10, 9), 2 * 12 * 9 * 8 * 7),
        (_conv(groups=8, out_channels=8), (8, 10, 9), 8 * 9 * 8 * 7),
        (_conv(kernel_size=(1, 5), bias=False), (8, 10, 9), 8 * 12 * 5 * 10 * 5),
        (nn.Conv1d(3, 5, 4), (3, 20), 3 * 5 * 4 * 17),
        (nn.Conv3d(3, 5, 2), (3, 4, 5, 6), 3 * 5 * 8 * 3 * 4 * 5),
        (nn.Conv3d(1, 5, 2), (1, 4, 5, 6), 5 * 8 * 3 * 4 * 5),
        (nn.ConvTranspose2d(6, 4, 3, stride=2), (6, 5, 7), 6 * 4 * 9 * 5 * 7),
        (nn.ConvTranspose2d(6, 4, 3, groups=2), (6, 5, 7), 3 * 4 * 9 * 5 * 7),
        (nn.Linear(7, 11), (7,), 7 * 11),
        (nn.Linear(7, 11, bias=False), (5, 7), 5 * 7 * 11),
        (nn.LSTM(4, 3, batch_first=True), (5, 4), 5 * (4 * 12 + 3 * 12)),
        (nn.GRU(4, 3, batch_first=True), (5, 4), 5 * (4 * 9 + 3 * 9)),
        (parametrizations.weight_norm(nn.Linear(7, 11)), (7,), 7 * 11),
        (nn.Sequential(nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True)), (8, 4, 4), 0),
        (nn.Sequential(nn.LayerNorm(8), nn.RMSNorm(8), nn.PReLU()), (8,), 0),
        (nn.Sequential(nn.ReLU(), nn.AvgPool2d(2), nn.Softmax(1)), (8, 4, 4), 0),
    ],
    ids=str,
)
def test_layers(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert count_macs(layer, shape) == macs


def test_attention() -> None:
    tokens, width = 5, 8
    wanted = 4 * tokens * width**2 + 2 * tokens**2 * width
    attention = nn.MultiheadAttention(width, 2, batch_first=True)
    x = torch.zeros(1, tokens, width)
    assert count_macs(attention, (x, x, x)) == wanted
    layer = nn.TransformerEncoderLayer(width, 2, 16, batch_first=True)
    assert macs_by_module(layer, (tokens, width)) == {
        "self_attn": wanted,
        "linear1": tokens * width * 16,
        "linear2": tokens * width * 16,
    }
    assert torch.backends.mha.get_fastpath_enabled()


class _Sdpa(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_attention_without_parameters() -> None:
    assert count_macs(_Sdpa(), torch.zeros(1, 2, 5, 4)) == 2 * 2 * 5 * 5 * 4


class _Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


class _Outsider(nn.Module):
    """Uses a layer's parameters without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.bilinear = nn.Bilinear(4, 4, 3)
        self.linear = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.bilinear(x, x, self.bilinear.weight)
        return y + nn.functional.linear(x, self.linear.weight)


def test_an_unknown_layer_is_an_error_that_names_it() -> None:
    model = nn.Sequential(nn.Linear(4, 4), _Scale(), nn.Sequential(_Scale()))
    with pytest.raises(CostError, match="ignore=") as caught:
        count_macs(model, (4,))
    assert [problem.split(": ")[0] for problem in caught.value.problems] == ["1", "2.0"]
    assert all("_Scale" in problem for problem in caught.value.problems)
    with pytest.raises(CostError, match="the model itself"):
        count_macs(_Scale(), (4,))


@pytest.mark.parametrize("ignore", [["1", "2.0"], ["_Scale"], [_Scale], ("1", _Scale)])
def test_unknown_layers_can_be_ignored(ignore: list[str | type[nn.Module]]) -> None:
    model = nn.Sequential(nn.Linear(4, 4), _Scale(), nn.Sequential(_Scale()))
    assert count_macs(model, (4,), ignore=ignore) == 16


def test_parameters_are_followed_wherever_they_are_used() -> None:
    with pytest.raises(CostError) as caught:
        count_macs(_Outsider(), (4,))
    assert [problem.split(": ")[0] for problem in caught.value.problems] == ["bilinear"]
    assert count_macs(_Outsider(), (4,), ignore=[nn.Bilinear]) == 12


def test_modules_that_do_not_run_are_no_matter() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 3), _Scale()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    assert count_macs(Unused(), (4,)) == 12


class _Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(3, 4))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask


def test_weights_that_are_computed() -> None:
    masked = nn.Linear(4, 3)
    parametrize.register_parametrization(masked, "weight", _Masked())
    pruned = prune.random_unstructured(nn.Linear(4, 3), "weight", 0.5)
    assert count_macs(masked, (4,)) == count_macs(pruned, (4,)) == 12


def test_a_layer_used_twice_counts_twice_and_its_parameters_once() -> None:
    linear = nn.Linear(4, 4)
    model = nn.Sequential(linear, linear)
    assert (count_macs(model, (4,)), count_params(model)) == (32, 20)


def test_a_matrix_times_a_vector() -> None:
    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Parameter(torch.ones(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.query

    assert count_macs(Pool(), (5, 6)) == 30


def test_params_are_parameters_only() -> None:
    assert count_params(nn.BatchNorm2d(8)) == 16
    assert count_params(nn.Conv2d(3, 8, 3)) == 8 * 3 * 9 + 8


def test_the_model_is_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 4, 1))
    model[2].eval()
    model.register_forward_hook(lambda *_: None)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    hooks = [dict(module._forward_hooks) for module in model.modules()]
    rng = torch.get_rng_state()
    assert count_macs(model, (3, 6, 6)) == 3 * 4 * 9 * 16 + 4 * 4 * 16
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert hooks == [dict(module._forward_hooks) for module in model.modules()]
    assert torch.equal(rng, torch.get_rng_state())
    assert not torch.nn.modules.module._global_forward_hooks


@pytest.mark.slow
def test_nothing_is_computed() -> None:
    huge = nn.Sequential(nn.Linear(2**14, 2**14, device="meta"), nn.Linear(2**14, 2**14, device="meta"))
    assert count_macs(huge, (2**16, 2**14)) == 2 * 2**44


def test_a_forward_that_looks_at_numbers() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 1 else self.norm(self.linear(x))

    model = Looks()
    before = model.norm.running_var.clone()
    assert count_macs(model, (4,)) == 12
    assert torch.equal(model.norm.running_var, before)


def test_inputs() -> None:
    conv = nn.Conv2d(3, 4, 3)
    one = count_macs(conv, (3, 6, 6))
    assert count_macs(conv, [3, 6, 6]) == one
    assert count_macs(conv, (1, 3, 6, 6)) == one
    assert count_macs(conv, torch.zeros(2, 3, 6, 6)) == 2 * one
    assert count_macs(nn.Conv2d(3, 4, 3).double(), (3, 6, 6)) == one
    assert count_macs(nn.Embedding(10, 4), torch.zeros(1, 5, dtype=torch.long)) == 0


@pytest.mark.parametrize("wrong", [(), (3, 0), (3.0, 4), "3,4", None, (3, torch.zeros(1))])
def test_wrong_inputs(wrong: object) -> None:
    with pytest.raises(CostError, match="wanted a shape such as"):
        count_macs(nn.Linear(3, 4), wrong)  # type: ignore[arg-type]


def test_a_model_that_cannot_run_says_why() -> None:
    with pytest.raises(CostError, match=r"Linear cannot be run on 1x5: RuntimeError: .*1x5 and 3x4"):
        count_macs(nn.Linear(3, 4), (5,))
    with pytest.raises(CostError, match="before anything was chosen"):
        count_macs(small(), (3, 8, 8))


def test_a_supernet_costs_what_is_chosen() -> None:
    model = small()
    space = space_of(model)
    apply_choices(model, space.decode((1, 1, 0, 7)))
    assert macs_by_module(model, (3, 8, 8)) == {
        "stem": 3 * 8 * 9 * 64,
        "first.candidates.5x5": 8 * 8 * 25 * 64,
        "head": 80,
    }
