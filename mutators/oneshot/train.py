"""Supernet training: at each step one path, or a fair group of paths, of any model with choices.

After Single Path One-Shot (Guo et al., ECCV 2020, arXiv:1904.00420). Differs: MMRazor broadcasts each choice of each
step between processes; here the path is a function of seed and step. A training that was killed goes on inside its
epoch, and on the CPU ends bit for bit as it would have.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mutators.base import Mutator
from mutators.oneshot import distributed
from mutators.oneshot.checkpoint import from_bytes, read_checkpoint, to_bytes, write_checkpoint
from mutators.oneshot.config import TrainConfig
from mutators.oneshot.data import batches, check_loader, set_epoch, to_device
from mutators.oneshot.errors import OneShotError
from mutators.oneshot.optim import Update, bad_optimizer, lr_factor, make_optimizer
from mutators.oneshot.paths import Paths, fair, uniform
from mutators.oneshot.progress import Progress
from mutators.oneshot.rng import rng_state, set_rng_state
from mutators.oneshot.switch import Switch
from search_spaces.schema import Space

Loss = Callable[[Any, Any], torch.Tensor]
LossOfBatch = Callable[[nn.Module, Any], torch.Tensor]

_REPORT_EVERY = 20


def train_supernet(
    model: nn.Module,
    loader: Iterable[Any],
    config: TrainConfig,
    *,
    loss: Loss | None = None,
    step: LossOfBatch | None = None,
    paths: Paths | None = None,
    mutator: Mutator | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    checkpoint: str | PathLike[str] | None = None,
    resume: bool = True,
    log_dir: str | PathLike[str] | None = None,
    progress: bool = True,
) -> list[float]:
    """Train ``model`` in place, on the device that its parameters are on; it is left in training mode.

    What a step does not run does not move: its gradients are None, so neither momentum nor decay touches it.

    Under ``torchrun`` each process calls this with the same model and config and its share of the data (a
    ``DistributedSampler``). The first one's weights are copied once; then all train the same path and average the
    gradients. Only the first writes files and shows progress. Batch norms see their own process's batch.

    Args:
        model: with choices and without a mutator; or one without choices, such as an extracted winner to retrain.
        loader: of batches (inputs, targets), or of anything if ``step`` is given: a ``DataLoader``, or whatever can
            be walked once an epoch. See :func:`mutators.oneshot.data.batches` for how its order is made reproducible.
        config: the options.
        loss: (outputs, targets) to a scalar; None: cross-entropy, with the config's label smoothing.
        step: (model, batch) to a scalar loss, in the place of ``loss``; it runs the model.
        paths: from the step's number to the architectures that it runs, such as :func:`mutators.oneshot.macs_bins`;
            None: what the config's strategy says.
        mutator: one that is bound to the model: its ``reset()`` is called before each step, in the place of paths. It
            must draw the same in every process; if it has ``state_dict`` and ``load_state_dict``, they are used.
        optimizer: over all parameters; its own learning rates are scheduled. None: the config's.
        checkpoint: file; if it exists, training goes on from it, and returns at once if that was the end. It holds
            weights, optimizer, the states of torch's, NumPy's and Python's generators, and the place in the epoch.
        resume: False refuses a checkpoint that exists.
        log_dir: for TensorBoard, if it is installed.
        progress: whether to show a line with the time that is left on stderr.

    Returns: each epoch's mean loss, of this process's batches.

    Raises:
        OneShotError: arguments do not fit together, the checkpoint is of another training, the loader has no length
            or ends early, or the loss is not finite; then the last checkpoint is one from before.
        ChoiceError: the model's choices do not fit together, or a mutator is bound that was not given.
    """
    _check_arguments(model, config, loss, step, paths, mutator, optimizer)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with distributed.process_group(device):
        check_loader(loader, distributed.processes(), checkpoint is not None)
        run = _Run(model, loader, config, _loss_of_batch(loss, step, config), paths, mutator, optimizer, device)
        distributed.check_agreement(json.dumps(run.about), device)
        distributed.start_alike(model)
        path = None if checkpoint is None else Path(checkpoint)
        if path is not None:
            run.open(path, resume)
        with Progress(
            run.step, run.steps, progress and distributed.rank() == 0, log_dir if not distributed.rank() else None
        ) as shown:
            run.go(path, shown)
    return run.losses


class _Run:
    """One training: what it is made of, and where it is."""

    def __init__(
        self,
        model: nn.Module,
        loader: Any,
        config: TrainConfig,
        loss_of_batch: LossOfBatch,
        paths: Paths | None,
        mutator: Mutator | None,
        optimizer: torch.optim.Optimizer | None,
        device: torch.device,
    ) -> None:
        self.model, self.loader, self.config, self.device = model, loader, config, device
        self.loss_of_batch, self.mutator = loss_of_batch, mutator
        self.amp = config.amp and device.type == "cuda"
        self.update = Update(optimizer or make_optimizer(model, config), config.clip_norm, self.amp)
        self.switch = Switch(model) if mutator is None else None
        self.space = Space({}) if self.switch is None else self.switch.space
        self.paths = paths or {"uniform": uniform, "fair": fair}[config.strategy](self.space, config.seed)
        self.steps_per_epoch = _length(loader, config)
        self.steps = config.epochs * self.steps_per_epoch
        self.step = 0
        self.losses: list[float] = []
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.about = self._about()

    def _about(self) -> dict[str, Any]:
        """What must be the same in all processes, and after a kill."""
        domains = self.mutator.domains if self.mutator is not None else self.space.domains
        return {
            "config": {k: v for k, v in self.config.to_json().items() if k != "checkpoint_every"},
            "steps_per_epoch": self.steps_per_epoch,
            "processes": distributed.processes(),
            "optimizer": type(self.update.optimizer).__name__,
            "mutator": None if self.mutator is None else type(self.mutator).__name__,
            "space": {key: str(domain.to_json()) for key, domain in domains.items()},
            "first_paths": [[int(token) for token in tokens] for tokens in self.paths(0)],
        }

    def go(self, path: Path | None, shown: Progress) -> None:
        """Train to the end."""
        self.model.train()
        while self.step < self.steps:
            self._epoch(path, shown)

    def _epoch(self, path: Path | None, shown: Progress) -> None:
        """Train to the end of the epoch that the step is in."""
        epoch, start = divmod(self.step, self.steps_per_epoch)
        set_epoch(self.loader, epoch)
        source = batches(self.loader, self.config.seed, epoch, start, distributed.rank())
        for position in range(start, self.steps_per_epoch):
            batch = next(source, None)
            if batch is None:
                raise OneShotError(
                    f"the loader ended after {position} batches in epoch {epoch}, wanted {self.steps_per_epoch}."
                )
            self._step(to_device(batch, self.device))
            shown.step()
            if self.step % _REPORT_EVERY == 0 or position + 1 == self.steps_per_epoch:
                shown.report(self.step, self._mean_loss(position + 1), self.update.optimizer.param_groups[0]["lr"])
            if position + 1 < self.steps_per_epoch and self.step % (self.config.checkpoint_every or self.steps) == 0:
                self.save(path)
        self.losses.append(self._mean_loss(self.steps_per_epoch))
        self.loss_sum.zero_()
        self.save(path)

    def _step(self, batch: Any) -> None:
        """Run the paths of this step on one batch, and update once."""
        self.update.clear()
        group = self.paths(self.step)
        for tokens in group:
            self._set(tokens)
            with self._precision():
                loss = self.loss_of_batch(self.model, batch)
            self.update.backward(loss)
            self.loss_sum += loss.detach() / len(group)
        distributed.average_gradients(self.update.gradients())
        self.update.step(lr_factor(self.config, self.step, self.steps, self.steps_per_epoch))
        self.step += 1

    def _set(self, tokens: Any) -> None:
        if self.mutator is not None:
            self.mutator.reset()
        elif self.switch is not None:
            self.switch.set(tokens)

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast("cuda") if self.amp else nullcontext()

    def _mean_loss(self, batches_done: int) -> float:
        mean = float(self.loss_sum) / batches_done
        if not math.isfinite(mean):
            raise OneShotError(
                f"the loss is {mean} at step {self.step}: lower lr, or give clip_norm or warmup_epochs. "
                "The last checkpoint, if there is one, is from before."
            )
        return mean

    def open(self, path: Path, resume: bool) -> None:
        """Go on from the checkpoint if it exists, and write the first one if not."""
        content = read_checkpoint(path, self.about)
        if content is None:
            self.save(path)
            return
        if not resume:
            raise OneShotError(f"there is a checkpoint {path} already: delete it, or let training go on from it.")
        self.model.load_state_dict(content["model"])
        self.update.optimizer.load_state_dict(content["optimizer"])
        self.update.scaler.load_state_dict(content["scaler"])
        self.update.base_lrs = content["base_lrs"]
        if content["mutator"] is not None:
            getattr(self.mutator, "load_state_dict")(content["mutator"])  # noqa: B009  # a mutator may have it
        self.step, self.losses = content["step"], content["losses"]
        self.loss_sum.fill_(content["loss_sum"])
        set_rng_state(from_bytes(content["rng"][distributed.rank()]))

    def save(self, path: Path | None) -> None:
        """Write a checkpoint; every process has to call this."""
        if path is None:
            return
        states = distributed.gather(to_bytes(rng_state()), self.device)
        if self.step % self.steps_per_epoch:
            self._mean_loss(1)  # never a checkpoint of a network that is lost
        if distributed.rank() == 0:
            write_checkpoint(
                path,
                {
                    "about": self.about,
                    "model": self.model.state_dict(),
                    "optimizer": self.update.optimizer.state_dict(),
                    "scaler": self.update.scaler.state_dict(),
                    "mutator": getattr(self.mutator, "state_dict", lambda: None)(),
                    "base_lrs": self.update.base_lrs,
                    "rng": states,
                    "step": self.step,
                    "losses": self.losses,
                    "loss_sum": float(self.loss_sum),
                },
            )


def _check_arguments(
    model: nn.Module,
    config: TrainConfig,
    loss: Loss | None,
    step: LossOfBatch | None,
    paths: Paths | None,
    mutator: Mutator | None,
    optimizer: torch.optim.Optimizer | None,
) -> None:
    problems = [] if optimizer is None else list(bad_optimizer(optimizer, model))
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


def _loss_of_batch(loss: Loss | None, step: LossOfBatch | None, config: TrainConfig) -> LossOfBatch:
    if step is not None:
        return step

    def default(outputs: Any, targets: Any) -> torch.Tensor:
        return F.cross_entropy(outputs, targets, label_smoothing=config.label_smoothing)

    function = default if loss is None else loss

    def of_batch(model: nn.Module, batch: Any) -> torch.Tensor:
        inputs, targets = batch
        return function(model(inputs), targets)

    return of_batch


def _length(loader: Any, config: TrainConfig) -> int:
    """Batches an epoch."""
    if config.steps_per_epoch is not None:
        return config.steps_per_epoch
    try:
        length = len(loader)
    except TypeError:
        raise OneShotError("the loader has no length: set steps_per_epoch in the TrainConfig.") from None
    if length < 1:
        raise OneShotError("the loader has no batch. Is the data set smaller than a batch, with drop_last=True?")
    return length
