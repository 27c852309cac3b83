"""Inputs are found: as given, from a shape, by the first layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutators.inputs import guess_inputs, inputs_for, run_first
from search_spaces.errors import CostError


def test_a_shape_may_have_its_batch() -> None:
    conv = nn.Conv2d(1, 2, 3).double()
    shapes = [tuple(tensor.shape) for (tensor,) in inputs_for(conv, (1, 8, 8))]
    assert shapes == [(1, 1, 8, 8), (1, 8, 8)]
    assert all(tensor.dtype == torch.float64 for (tensor,) in inputs_for(conv, (1, 8, 8)))


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Flatten(), nn.Linear(4 * 13 * 13, 2)),
        nn.Sequential(nn.Linear(7, 2)),
        nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)),
        nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 2)),
    ],
)
def test_the_first_layer_tells_what_suits_it(model: nn.Module) -> None:
    candidates = [(tensor,) for tensor in guess_inputs(model)]
    out = run_first(model, candidates, lambda inputs: model(*inputs))
    assert out.shape[0] == 2 and out.shape[-1] == 2
    assert list(guess_inputs(nn.ReLU())) == []


def test_all_that_was_tried_is_named() -> None:
    model = nn.Linear(3, 4)
    with pytest.raises(CostError, match=r"Linear cannot be run on 1x5 or 5, 2x2: RuntimeError: .*1x5 and 3x4"):
        run_first(model, [(torch.zeros(1, 5),), (torch.zeros(5), torch.zeros(2, 2))], lambda inputs: model(*inputs))
