"""Train a supernet: at each step one path, or a fair group of paths, of any model with choices.

After Single Path One-Shot (Guo et al., ECCV 2020, arXiv:1904.00420). Differs: MMRazor broadcasts each choice of each
step between processes; here the path is a function of seed and step. A training that was killed goes on inside its
epoch, and on the CPU ends bit for bit as the unbroken one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mutators.base import Mutator
from mutators.choices.errors import OneShotError
from mutators.inputs import device_of
from mutators.oneshot import distributed
from mutators.oneshot.config import TrainConfig
from mutators.oneshot.data import check_loader
from mutators.oneshot.paths import Paths
from mutators.oneshot.precision import check_half
from mutators.oneshot.training import BatchLoss, Pruner, Training

Loss = Callable[[Any, Any], torch.Tensor]
"""(outputs, targets) to a scalar."""


def train_supernet(
    model: nn.Module,
    loader: Iterable[Any],
    config: TrainConfig,
    *,
    loss: Loss | None = None,
    step: BatchLoss | None = None,
    paths: Paths | None = None,
    mutator: Mutator | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    pruner: Pruner | None = None,
    parts: bool | None = None,
    checkpoint: str | PathLike[str] | None = None,
    resume: bool = True,
    log_dir: str | PathLike[str] | None = None,
    progress: bool = True,
) -> list[float]:
    """Train ``model`` in place, on the device of its parameters; it is left in training mode.

    A step changes only parameters that it runs: the gradients of all others are None, so that neither momentum nor
    decay touches them.

    Under ``torchrun`` each process calls this with the same model and config and its share of the data (a
    ``DistributedSampler``). The first one's weights are copied once; then all train the same path and average the
    gradients, once a step. Only the first writes files and shows progress. Batch norms see the batch of their own
    process; on GPUs, ``nn.SyncBatchNorm.convert_sync_batchnorm(model)`` lets them see all. It knows no elastic ones: it
    would replace them.

    Args:
        model: with choices and without a mutator; or one without choices, such as an extracted winner to retrain.
        loader: of batches (inputs, targets), or of anything if ``step`` is given: a ``DataLoader``, or any object that
            can be walked once an epoch. :func:`mutators.oneshot.data.walk_batches` says how its order is reproduced.
        config: the options.
        loss: (outputs, targets) to a scalar; None: cross-entropy, with the config's label smoothing.
        step: (model, batch) to a scalar loss, in the place of ``loss``; it runs the model.
        paths: from the step's number to the architectures that it runs, such as :func:`mutators.oneshot.macs_bins`;
            None: by the config's strategy.
        mutator: one that is bound to the model: its ``reset()`` is called before each step, in the place of paths. It
            must draw the same in every process. An exact resume needs its ``state_dict`` and ``load_state_dict``,
            unless it draws from the global generators only.
        optimizer: over all parameters; its own learning rates are scheduled. None: the config's.
        pruner: of this model; its ``step()`` is called after each optimizer step, and its state is in the checkpoint.
        parts: whether parts of weights are cut without autograd, which is faster and gives the same numbers: see
            :mod:`mutators.elastic.layers.parts`. Only a loss that itself asks autograd for the gradients of parameters
            would miss them. None: if there is no ``step``.
        checkpoint: a file; training goes on from it if it exists, and returns at once if that was the end. It holds
            weights, optimizer, the states of the generators of torch, NumPy and Python, and the place in the epoch.
            All processes have to see it.
        resume: False refuses a checkpoint that exists.
        log_dir: for TensorBoard, if it is installed.
        progress: whether to show a line with the time left on stderr.

    Returns: each epoch's mean loss, of the batches of this process.

    Raises:
        OneShotError: arguments do not fit together, the checkpoint is of another training, the loader has no length
            or ends early, or the loss is not finite; then the last checkpoint is one from before.
        ChoiceError: the model's choices do not fit together, or a mutator is bound that was not given.
    """
    _check_options(model, config, loss, step, paths, mutator, optimizer)
    device = device_of(model)
    with distributed.process_group(device):
        check_loader(loader, distributed.count_processes(), checkpoint is not None)
        training = Training(
            model,
            loader,
            config,
            step or _batch_loss(loss, config.label_smoothing),
            paths=paths,
            mutator=mutator,
            optimizer=optimizer,
            pruner=pruner,
            by_parts=step is None if parts is None else parts,
        )
        distributed.check_agreement(json.dumps(training.about), device)
        distributed.broadcast_weights(model)
        path = None if checkpoint is None else Path(checkpoint)
        if path is not None:
            training.open(path, resume)
        first = distributed.get_rank() == 0
        training.run(path, progress and first, log_dir if first else None)
    return training.losses


def _check_options(
    model: nn.Module,
    config: TrainConfig,
    loss: Loss | None,
    step: BatchLoss | None,
    paths: Paths | None,
    mutator: Mutator | None,
    optimizer: torch.optim.Optimizer | None,
) -> None:
    problems = check_half(config.amp, device_of(model))
    if optimizer is not None:
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        lost = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in known]
        if lost:
            problems.append(f"the optimizer does not have {len(lost)} of the model's parameters, such as {lost[0]!r}")
    if loss is not None and step is not None:
        problems.append("loss and step are both given, wanted one of them: step computes the loss itself")
    if config.label_smoothing and (loss is not None or step is not None):
        problems.append("label_smoothing is of the default loss only: smooth in your own loss")
    if paths is not None and mutator is not None:
        problems.append("paths and mutator are both given, wanted one of them: a mutator draws itself")
    if (paths is not None or mutator is not None) and config.strategy != "uniform":
        problems.append(f"strategy is {config.strategy!r} and paths or mutator is given, wanted one of them")
    if mutator is not None and mutator.model is not model:
        problems.append(f"the {type(mutator).__name__} is bound to another model")
    if problems:
        raise OneShotError("the supernet cannot be trained like this:", problems)


def _batch_loss(loss: Loss | None, label_smoothing: float) -> BatchLoss:
    """Return a function that runs a model on a batch (inputs, targets) and returns the loss."""
    compute = loss or partial(F.cross_entropy, label_smoothing=label_smoothing)

    def batch_loss(model: nn.Module, batch: Any) -> torch.Tensor:
        inputs, targets = batch
        return compute(model(inputs), targets)

    return batch_loss
