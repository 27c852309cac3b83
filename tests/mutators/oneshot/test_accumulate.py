"""Gradients of several batches before one update: as of one large batch, and what counts as a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mutators import RandomMutator
from mutators.oneshot import OneShotError, TrainConfig, train_supernet
from mutators.pruning import UnstructuredPruner
from tests.mutators.oneshot import nets
from tests.mutators.oneshot.test_train import Interrupted, interrupted_at

SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "warmup_epochs": 0.5}


def batches_of(n: int, size: int) -> list[Any]:
    x, y = nets.data(n * size).tensors
    return list(zip(x.split(size), y.split(size), strict=True))


def fit(loader: Any, model: nn.Module | None = None, epochs: int = 3, **options: Any) -> tuple[nn.Module, list[float]]:
    model = nets.supernet(norm=False) if model is None else model
    rest = {name: options.pop(name) for name in ("mutator", "pruner", "checkpoint", "step") if name in options}
    return model, train_supernet(model, loader, TrainConfig(epochs=epochs, **options), progress=False, **rest)


@pytest.mark.parametrize(
    "options", [SGD, {**SGD, "strategy": "fair", "clip_norm": 0.5}, {"optimizer": "adamw"}], ids=str
)
def test_batches_add_up_to_a_large_one(options: dict[str, Any]) -> None:
    """Four of 8 are one of 32, with the same paths and learning rates; of nine the last is a step by itself."""
    several, losses = fit(batches_of(8, 8), accumulate=4, **options)
    large, expected = fit(batches_of(2, 32), **options)
    assert losses == pytest.approx(expected, abs=1e-5)
    for ours, theirs in zip(several.parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    x, y = nets.data(72).tensors
    left, _ = fit(list(zip(x.split(8), y.split(8), strict=True)), accumulate=4, **options)
    odd, _ = fit(list(zip(x.split(32), y.split(32), strict=True)), **options)  # the last of 8
    for ours, theirs in zip(left.parameters(), odd.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_the_mean_of_gradients_by_hand() -> None:
    """Two steps of SGD with momentum on a linear model: against the formulas."""
    torch.manual_seed(0)
    model = nn.Linear(6, 1, bias=False)
    weight, moment = model.weight.detach().clone(), torch.zeros(1, 6)
    batches = [torch.randn(4, 6) for _ in range(6)]
    options = {"lr": 0.5, "schedule": "constant", "weight_decay": 0.0}
    fit(batches, model, epochs=1, accumulate=3, step=lambda net, x: net(x).mean(), **options)
    for half in (batches[:3], batches[3:]):
        moment = 0.9 * moment + torch.stack([x.mean(0) for x in half]).mean(0)  # of (w x).mean()
        weight = weight - 0.5 * moment
    torch.testing.assert_close(model.weight.detach(), weight)


def test_a_step_is_an_update(tmp_path: Path) -> None:
    """A mutator and a pruner work once a step; steps_per_epoch counts steps, of so many batches each."""
    model, seen = nets.supernet(), []
    mutator, pruner = RandomMutator(model, seed=1), UnstructuredPruner(model, mode="ratio", ratio=0.5)
    drawn, pruned = [], []
    mutator.reset, draw = lambda: (draw(), drawn.append(len(seen))), mutator.reset  # type: ignore
    pruner.step, prune = lambda: (prune(), pruned.append(len(seen))), pruner.step  # type: ignore

    def step(net: nn.Module, batch: Any) -> torch.Tensor:
        seen.append(batch)
        return net(batch[0]).square().mean()  # type: ignore[no-any-return]

    fit(batches_of(7, 4), model, epochs=2, accumulate=3, mutator=mutator, pruner=pruner, step=step)
    assert (drawn, pruned) == ([0, 3, 6, 7, 10, 13], [3, 6, 7, 10, 13, 14])
    fit(batches_of(7, 4), epochs=1, accumulate=3, steps_per_epoch=2, step=step, checkpoint=tmp_path / "c.pt")
    assert len(seen) == 14 + 6
    with pytest.raises(OneShotError, match="ended after 7 batches in epoch 0, wanted 9"):
        fit(batches_of(7, 4), accumulate=3, steps_per_epoch=3)
    with pytest.raises(OneShotError, match="batches_per_epoch"):
        fit(batches_of(5, 4), epochs=1, accumulate=3, step=step, checkpoint=tmp_path / "other.pt")
        fit(batches_of(6, 4), epochs=1, accumulate=3, step=step, checkpoint=tmp_path / "other.pt")


@pytest.mark.parametrize("stop", [1, 4, 5])
def test_stopped_inside_an_epoch_and_resumed_it_is_the_unbroken_one(tmp_path: Path, stop: int) -> None:
    """Six batches an epoch by four: steps of four and of two, and a checkpoint after each."""
    options = {"epochs": 3, "accumulate": 4}
    whole, losses = nets.train(tmp_path / "whole.pt", **options)
    with pytest.raises(Interrupted), interrupted_at(stop):
        nets.train(tmp_path / "part.pt", **options)
    model, again = nets.train(tmp_path / "part.pt", **options)
    assert again == losses and nets.same(model.state_dict(), whole.state_dict())
    assert nets.same(*(torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("part", "whole")))
