"""Compare outputs of ``paddle_compatible`` networks with PaddleSlim's, on weights and an image that both can make.

``paddleslim_outputs.json`` was recorded from PaddleSlim 2.6.0 on Paddle 2.6.2: for each case six values of the output
at even distances, and the largest magnitude. A weight is drawn from a generator seeded with its shape, so that the
order in which the two make their layers does not matter; batch norms are as they are made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import search_spaces

CASES = json.loads((Path(__file__).parent / "paddleslim_outputs.json").read_text(encoding="utf-8"))
LARGE = ("DartsSpace", "ResNetSpace")


def _drawn(shape: tuple[int, ...]) -> torch.Tensor:
    """Draw weights, normal of variance 2 / fan-in."""
    values = np.random.default_rng(list(shape)).standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(values.astype(np.float32))


def _image(size: int) -> torch.Tensor:
    values = np.sin(np.arange(3 * 33 * 33) * 0.37).reshape(1, 3, 33, 33).astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(values[:, :, :size, :size]))


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case['name']}-{i}", marks=[pytest.mark.slow] if case["name"] in LARGE else [])
        for i, case in enumerate(CASES)
    ],
)
def test_outputs_are_paddleslims(case: dict[str, Any]) -> None:
    with torch.device("meta"):
        net = search_spaces.build(
            case["name"], case["tokens"], num_classes=case["num_classes"], paddle_compatible=True, **case["config"]
        )
    net = net.to_empty(device="cpu").eval()
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.data = _drawn(tuple(module.weight.shape))
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    with torch.no_grad():
        output = net(_image(case["size"]))
    assert list(output.shape) == case["shape"]
    values = output.numpy().ravel()
    assert np.abs(values).max() == pytest.approx(case["largest"], rel=1e-4)
    at = np.linspace(0, values.size - 1, len(case["values"])).astype(int)
    assert values[at] == pytest.approx(np.array(case["values"]), abs=1e-4 * case["largest"])
