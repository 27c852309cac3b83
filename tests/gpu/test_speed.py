"""What a supernet's step costs on a GPU: printed, and refused only where something is badly wrong."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from mutators import extract
from mutators.choices.switch import Switch
from search_spaces import build
from tests.benchmarks.pairs import Step, compare
from tests.benchmarks.supernet_step import plain_step, supernet_step
from tests.gpu.device import DEVICE, IS_GPU, on_device, wait

pytestmark = [*on_device, pytest.mark.alone]


def waited(step: Step) -> Step:
    def run() -> None:
        step()
        wait()

    return run


def test_a_supernets_step_costs_little_more_than_the_plain_one(capsys: pytest.CaptureFixture[str]) -> None:
    pairs, batch_size = (60, 128) if IS_GPU else (3, 2)
    net = build("shufflenet_v2", num_classes=100)
    space = Switch(net).space
    tokens = space.sample(np.random.default_rng(0))
    plain = extract(net, space.decode(tokens)).to(DEVICE)
    images = torch.randn(batch_size, 3, 64, 64, device=DEVICE)
    batch = (images, torch.randint(100, (batch_size,), device=DEVICE))
    other = waited(plain_step(plain, batch))
    steps = {
        "plain / plain": plain_step(copy.deepcopy(plain), batch),
        "path set / plain": supernet_step(net.to(DEVICE), batch, tokens, mutator=False),
    }
    found = {name: compare(waited(step), other, pairs) for name, step in steps.items()}
    with capsys.disabled():
        for name, (ratio, milliseconds) in found.items():
            print(f"\n{name:18} median of {pairs} pairs {ratio:.4f}   (step of {milliseconds:.1f} ms on {DEVICE})")
    assert found["path set / plain"][0] < 1.5
