"""Train a supernet by progressive shrinking, from the first phase to the last; resumable at any step."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mutators.choices.errors import ElasticError, OneShotError
from mutators.choices.value_choice import ValueChoice
from mutators.choices.walk import walk
from mutators.elastic.layers.layer import Elastic
from mutators.elastic.training.losses import Loss
from mutators.elastic.training.ofa import OFA
from mutators.elastic.training.sorting import sort_channels
from mutators.inputs import device_of
from mutators.oneshot import distributed
from mutators.oneshot.config import TrainConfig
from mutators.oneshot.data import count_batches
from mutators.oneshot.precision import check_half
from mutators.oneshot.train import train_supernet
from search_spaces.schema import Tokens

Configs = TrainConfig | Mapping[str, TrainConfig]


@dataclass(frozen=True)
class TrainingStage:
    """A part of the training with an optimizer of its own: a phase, or all of it.

    Attributes:
        config: its ``epochs`` are the phase's.
        first_epoch: over all stages.
        phase: its index, or None where there is no schedule.
    """

    name: str
    config: TrainConfig
    first_epoch: int
    phase: int | None


def train(
    ofa: OFA,
    loader: Iterable[Any],
    config: Configs | None = None,
    *,
    loss: Loss | None = None,
    sort: bool = True,
    checkpoint: str | PathLike[str] | None = None,
    resume: bool = True,
    log_dir: str | PathLike[str] | None = None,
    progress: bool = True,
) -> dict[str, list[float]]:
    """Train a supernet in place, phase by phase, each with an optimizer and a learning rate schedule of its own.

    Under ``torchrun`` it works as :func:`mutators.oneshot.train_supernet`, which it calls. With ``accumulate`` the
    sub-networks of a step run on each of its batches, and in a sandwich learn from the largest on the same batch.

    Args:
        ofa: with the schedule of its phases. Without one, or with a task or a sub-network set by hand, there is a
            single stage of the config's epochs.
        loader: of batches (inputs, targets).
        config: options; or by the name of a phase or a task. ``epochs`` is used only where a phase has no budget.
            None: SGD at 0.01, one epoch where a phase has no budget.
        loss: (outputs, targets) to a scalar; None: cross-entropy. The distillation's losses are added to it.
        sort: before a phase that opens widths, put the most important channels first; those of widths that are
            trained already keep their places. See :func:`mutators.elastic.sort_channels`.
        checkpoint: a folder, made if need be; if it holds a part of this training, that goes on.
        resume: False refuses a folder that holds a part already.
        log_dir: for TensorBoard, if it is installed.
        progress: whether to show phases and the time that is left on stderr.

    Returns: by stage, the mean loss of each epoch; of several sub-networks a step, their mean.

    Raises:
        ElasticError: there is no config for a phase.
        OneShotError: see :func:`mutators.oneshot.train_supernet`.
    """
    stages = _stages(ofa, config or TrainConfig(epochs=1, lr=0.01))
    device = device_of(ofa)
    if problems := sorted({problem for stage in stages for problem in check_half(stage.config.amp, device)}):
        raise OneShotError("the supernet cannot be trained like this:", problems)
    folder = None if checkpoint is None else Path(checkpoint)
    losses: dict[str, list[float]] = {}
    offset = 0
    with distributed.process_group(device):
        shown = progress and distributed.get_rank() == 0
        for i, stage in enumerate(stages):
            if shown:
                sys.stderr.write(f"phase {i + 1}/{len(stages)}, {stage.name}: {stage.config.epochs} epochs\n")
            if sort and stage.phase is not None:
                sort_for_phase(ofa, stage.phase)
            steps = math.ceil(count_batches(loader, stage.config) / stage.config.accumulate)
            driver = _Driver(ofa, stage, offset, steps, loss)
            losses[stage.name] = train_supernet(
                ofa,
                loader,
                replace(stage.config, label_smoothing=0.0),
                step=driver.loss_of,
                paths=driver.subnets,
                parts=True,
                checkpoint=None if folder is None else folder / f"{i}-{stage.name.replace(' ', '-')}.pt",
                resume=resume,
                log_dir=None if log_dir is None else Path(log_dir, stage.name),
                progress=progress,
            )
            offset += stage.config.epochs * steps
            ofa.curriculum.step = offset
            ofa.forget()
    ofa.set(ofa.curriculum.largest)
    return losses


class _Driver:
    """The sub-networks of a stage's steps, from the curriculum, and their losses."""

    def __init__(self, ofa: OFA, stage: TrainingStage, offset: int, steps_per_epoch: int, loss: Loss | None) -> None:
        self._ofa, self._stage, self._offset, self._per_epoch = ofa, stage, offset, steps_per_epoch
        self._loss, self._group, self._runs = loss or self._smoothed, 1, 0

    def subnets(self, step: int) -> list[Tokens]:
        """Return the sub-networks of a step of this stage."""
        curriculum = self._ofa.curriculum
        curriculum.step = self._offset + step
        if self._stage.phase is not None:
            curriculum.set_epoch(self._stage.first_epoch + step // self._per_epoch)
        subnets = curriculum.subnets(curriculum.step)
        self._group, self._runs = len(subnets), 0
        return subnets

    def loss_of(self, _: nn.Module, batch: Any) -> torch.Tensor:
        """Return the loss of the sub-network that is set, as its part of the step's loss on this batch."""
        if self._runs % self._group == 0:
            self._ofa.forget()  # a batch may come again as the same tensors, and the largest would learn from itself
        self._runs += 1
        return self._ofa.losses.scale(self._ofa.loss_of(batch, self._loss), self._group)

    def _smoothed(self, outputs: Any, targets: Any) -> torch.Tensor:
        return F.cross_entropy(outputs, targets, label_smoothing=self._stage.config.label_smoothing)


def _stages(ofa: OFA, config: Configs) -> list[TrainingStage]:
    if ofa.schedule is None or ofa.curriculum.by_hand:
        return [TrainingStage("all", _config(config, "all", "all"), 0, None)]
    stages, first = [], 0
    for i, phase in enumerate(ofa.schedule.phases):
        chosen = _config(config, phase.name, phase.task)
        epochs = chosen.epochs if phase.budget is None else phase.budget
        stages.append(TrainingStage(phase.name, replace(chosen, epochs=epochs), first, i))
        first += epochs
    return stages


def _config(config: Configs, phase: str, task: str) -> TrainConfig:
    if isinstance(config, TrainConfig):
        return config
    found = config.get(phase, config.get(task))
    if found is None:
        raise ElasticError(f"there is no config for phase {phase!r} or task {task!r}, only for {sorted(config)}.")
    return found


def sort_for_phase(ofa: OFA, phase: int) -> None:
    """Sort the channels if a phase opens widths; widths that are trained already keep their function."""
    schedule = ofa.schedule
    assert schedule is not None
    now = dict(zip(ofa.space.keys, schedule.allowed(phase), strict=True))
    before = dict(zip(ofa.space.keys, schedule.allowed(phase - 1), strict=True)) if phase else {}
    choices = {site.key: site.mutable for site in walk(ofa.model) if isinstance(site.mutable, ValueChoice)}
    layers = [layer for layer in ofa.model.modules() if isinstance(layer, Elastic)]
    wide = {choice.key for layer in layers for axis in layer.axes() for choice in axis.channels.choices}
    if any(len(now[key]) > len(before.get(key, (0,))) for key in wide):
        trained = {key: [choice.values[t] for t in before[key]] for key, choice in choices.items() if key in before}
        sort_channels(ofa, trained)
