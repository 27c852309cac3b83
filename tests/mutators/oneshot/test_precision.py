"""Half precision: what is computed in it, where it is refused, and checkpoints of before it had a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mutators import checkpoint
from mutators.elastic import train
from mutators.oneshot import OneShotError, TrainConfig, train_supernet
from mutators.oneshot.precision import choose_half
from tests.mutators.elastic.training import shrinking
from tests.mutators.oneshot import nets


def batches_of(n: int = 4, size: int = 16) -> list[Any]:
    x, y = nets.data(n * size).tensors
    return list(zip(x.split(size), y.split(size), strict=True))


def test_bfloat16_computes_on_a_cpu_too_with_weights_as_they_are(tmp_path: Path) -> None:
    seen: set[torch.dtype] = set()

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.add(outputs.dtype)
        return F.cross_entropy(outputs, targets)

    model = nets.supernet()
    config = TrainConfig(epochs=30, lr=0.2, amp="bfloat16", accumulate=2)
    losses = train_supernet(model, batches_of(), config, loss=loss, checkpoint=tmp_path / "c.pt", progress=False)
    assert seen == {torch.bfloat16} and losses[-1] < 0.7 * losses[0]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.load(tmp_path / "c.pt", weights_only=True)["scaler"] == {}, "only float16 needs scaled gradients"


def test_a_shrinking_in_bfloat16_is_one_in_float32_but_for_rounding() -> None:
    """With parts of weights, teacher and sandwich."""
    losses = {}
    for amp in (None, "bfloat16"):
        ofa = shrinking.ofa(dynamic_batch_size=2, sandwich=True)
        config = TrainConfig(epochs=1, lr=0.05, amp=amp, accumulate=2)
        losses[amp] = [
            mean for of_phase in train(ofa, shrinking.batches(4), config, progress=False).values() for mean in of_phase
        ]
    assert losses[None] != losses["bfloat16"]
    assert losses["bfloat16"] == pytest.approx(losses[None], rel=0.02)


def test_float16_needs_a_gpu() -> None:
    config = TrainConfig(epochs=1, amp="float16")
    with pytest.raises(OneShotError, match="amp is 'float16' and the model is on cpu: take 'bfloat16'"):
        train_supernet(nets.supernet(), batches_of(), config, progress=False)
    with pytest.raises(OneShotError, match="amp is 'float16' and the model is on cpu"):
        train(shrinking.ofa(), shrinking.batches(), config, progress=False)
    with pytest.raises(OneShotError, match="'bloat16', wanted one of 'bfloat16', 'float16'; did you mean 'bfloat16'"):
        TrainConfig(epochs=1, amp="bloat16")


def test_true_is_float16_on_a_gpu_and_nothing_on_a_cpu_as_before() -> None:
    with pytest.warns(DeprecationWarning, match="write amp='float16'"):
        before = TrainConfig(epochs=2, amp=True)
    assert choose_half(True, torch.device("cuda", 1)) == choose_half("float16", torch.device("cuda")) == torch.float16
    assert choose_half(True, torch.device("cpu")) is choose_half(None, torch.device("cuda")) is None
    a, b = nets.supernet(), nets.supernet()
    train_supernet(a, batches_of(), before, progress=False)
    train_supernet(b, batches_of(), TrainConfig(epochs=2), progress=False)
    assert nets.same(a.state_dict(), b.state_dict())
    assert before.describe() == TrainConfig(epochs=2, amp="float16").describe()


def test_a_checkpoint_of_before_these_options_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    model: nn.Module = nets.supernet()
    train_supernet(model, batches_of(), TrainConfig(epochs=1), checkpoint=path, progress=False)
    about = checkpoint.read(path)["about"]
    assert about["config"]["amp"] is False and "accumulate" not in about["config"] and "batches_per_epoch" not in about
    assert train_supernet(model, batches_of(), TrainConfig(epochs=1, amp=None), checkpoint=path, progress=False)
    with pytest.raises(OneShotError, match="bfloat16"):
        train_supernet(model, batches_of(), TrainConfig(epochs=1, amp="bfloat16"), checkpoint=path, progress=False)
