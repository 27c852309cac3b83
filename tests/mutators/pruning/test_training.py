"""A pruner in ``train_supernet``: it steps with the optimizer, and its state is in the checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from mutators.oneshot import OneShotError, TrainConfig, train_supernet
from mutators.pruning import GMPUnstructuredPruner, UnstructuredPruner, sparsity_report

BATCHES = [(torch.arange(32.0).view(4, 8) / 32 - i / 9, torch.tensor([0, 1, 2, 3])) for i in range(5)]
CONFIG = TrainConfig(epochs=4, lr=0.05)
PHASES = {"stable_iterations": 4, "pruning_iterations": 10, "pruning_steps": 5, "tunning_iterations": 6}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


class Interrupted(Exception):
    """In the place of a kill."""


class Breaking(GMPUnstructuredPruner):
    def step(self) -> None:
        if self.iteration == 13:
            raise Interrupted
        super().step()


def test_it_steps_once_an_optimizer_step() -> None:
    model = net()
    pruner = GMPUnstructuredPruner(model, 0.75, configs=PHASES)
    train_supernet(model, BATCHES, CONFIG, pruner=pruner, progress=False)
    assert pruner.iteration == 20 and pruner.ratio == 0.75
    assert sparsity_report(model).zeros == round(0.75 * (8 * 16 + 16 * 4))


def test_it_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    unbroken, broken, last = net(), net(), net()
    train_supernet(unbroken, BATCHES, CONFIG, pruner=GMPUnstructuredPruner(unbroken, configs=PHASES), progress=False)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Interrupted):
        train_supernet(
            broken, BATCHES, CONFIG, pruner=Breaking(broken, configs=PHASES), checkpoint=path, progress=False
        )
    mended = Breaking(last, configs=PHASES)
    mended.step = partial(GMPUnstructuredPruner.step, mended)  # type: ignore[method-assign]
    train_supernet(last, BATCHES, CONFIG, pruner=mended, checkpoint=path, progress=False)
    assert mended.iteration == 20
    assert all(torch.equal(value, last.state_dict()[name]) for name, value in unbroken.state_dict().items())


def test_a_checkpoint_of_a_training_without_a_pruner_is_refused(tmp_path: Path) -> None:
    model = net()
    train_supernet(model, BATCHES, CONFIG, checkpoint=tmp_path / "c.pt", progress=False)
    with pytest.raises(OneShotError, match="pruner is 'UnstructuredPruner', in the checkpoint None"):
        pruner = UnstructuredPruner(model, ratio=0.5)
        train_supernet(model, BATCHES, CONFIG, pruner=pruner, checkpoint=tmp_path / "c.pt", progress=False)
