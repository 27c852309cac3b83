"""Trainings on a GPU: the numbers of the CPU, half precision, activations that are computed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mutators.elastic import train
from mutators.oneshot import TrainConfig, train_supernet
from tests.gpu import nets
from tests.gpu.device import DEVICE, IS_GPU, on_device
from tests.mutators.elastic.training import shrinking

pytestmark = on_device
CPU = torch.device("cpu")


def needs_float16(amp: str | None) -> None:
    if amp == "float16" and not IS_GPU:
        pytest.skip("float16 needs a GPU")


@pytest.mark.parametrize("options", [{}, {"strategy": "fair", "accumulate": 2, "clip_norm": 1.0}], ids=str)
def test_a_supernets_losses_are_those_of_the_cpu(options: dict[str, Any]) -> None:
    here, there = nets.supernet(), nets.supernet()
    losses = nets.fit(here, DEVICE, **options)
    assert losses == pytest.approx(nets.fit(there, CPU, **options), rel=1e-3)
    for ours, theirs in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, atol=1e-3, rtol=1e-2)


def test_a_shrinkings_losses_are_those_of_the_cpu() -> None:
    """With a teacher, whose layers are compared, and a sandwich."""
    losses = {}
    for device in (DEVICE, CPU):
        ofa = shrinking.ofa(dynamic_batch_size=2, sandwich=True).to(device)
        losses[device.type] = train(ofa, shrinking.batches(), TrainConfig(epochs=1, lr=0.05), progress=False)
    for phase, of_phase in losses[DEVICE.type].items():
        assert of_phase == pytest.approx(losses["cpu"][phase], rel=1e-3)


def test_batches_add_up_to_a_large_one() -> None:
    large = shrinking.batches()
    halves = [half for x, y in large for half in zip(x.chunk(2), y.chunk(2), strict=True)]
    several, one = nets.supernet(norm=False), nets.supernet(norm=False)
    losses = nets.fit(several, DEVICE, halves, accumulate=2)
    assert losses == pytest.approx(nets.fit(one, DEVICE, large), rel=1e-4)
    for ours, theirs in zip(several.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_half_precision_learns(tmp_path: Path, amp: str) -> None:
    needs_float16(amp)
    seen: set[torch.dtype] = set()

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.add(outputs.dtype)
        return F.cross_entropy(outputs, targets)

    model = nets.supernet().to(DEVICE)
    config = TrainConfig(epochs=20, lr=0.05, amp=amp, clip_norm=5.0)
    losses = train_supernet(model, shrinking.batches(), config, loss=loss, checkpoint=tmp_path / "c.pt", progress=False)
    assert losses[-1] < 0.6 * losses[0]
    assert seen == {getattr(torch, amp)} and {p.dtype for p in model.parameters()} == {torch.float32}
    scaler = torch.load(tmp_path / "c.pt", weights_only=True)["scaler"]
    assert scaler["scale"] >= 1 if amp == "float16" else scaler == {}


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_a_shrinking_in_half_precision_is_one_in_float32_but_for_rounding(amp: str) -> None:
    needs_float16(amp)
    losses = {}
    for precision in (None, amp):
        ofa = shrinking.ofa(dynamic_batch_size=2, sandwich=True).to(DEVICE)
        config = TrainConfig(epochs=1, lr=0.02, amp=precision)
        found = train(ofa, shrinking.batches(), config, progress=False)
        losses[precision] = [mean for of_phase in found.values() for mean in of_phase]
    assert losses[amp] != losses[None]
    skipped = amp == "float16"  # the first steps, until the scale of gradients fits
    assert losses[amp] == pytest.approx(losses[None], rel=0.2 if skipped else 0.05)


@pytest.mark.parametrize("amp", [None, "bfloat16", "float16"])
@pytest.mark.parametrize("parts", [False, True])
def test_activations_may_be_computed_again_in_the_backward(parts: bool, amp: str | None) -> None:
    """The gradients are the same, so the weights after some steps are, with parts of weights and without."""
    needs_float16(amp)
    kept, again = nets.Elastic(again=False), nets.Elastic(again=True)
    losses = nets.fit(kept, DEVICE, parts=parts, amp=amp)
    assert nets.fit(again, DEVICE, parts=parts, amp=amp) == pytest.approx(losses, rel=1e-4)
    for ours, theirs in zip(again.parameters(), kept.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("amp", [None, "bfloat16", "float16"])
def test_parts_of_weights_are_the_same_training(amp: str | None) -> None:
    """But for rounding in half precision, in which autograd computes the smaller filters and parts do not."""
    needs_float16(amp)
    cut, whole = nets.Elastic(again=True), nets.Elastic(again=True)
    losses = nets.fit(cut, DEVICE, parts=True, amp=amp)
    assert nets.fit(whole, DEVICE, parts=False, amp=amp) == pytest.approx(losses, rel=0.1 if amp else 1e-4)
