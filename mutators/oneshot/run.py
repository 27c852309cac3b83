"""One training of a supernet: its steps, its epochs, and what is in its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from mutators.base import Mutator
from mutators.choices.switch import Switch
from mutators.elastic.layers.parts import Parts
from mutators.oneshot import distributed
from mutators.oneshot.checkpoint import from_bytes, read_checkpoint, to_bytes, write_checkpoint
from mutators.oneshot.config import TrainConfig
from mutators.oneshot.data import batches, set_epoch, to_device
from mutators.oneshot.errors import OneShotError
from mutators.oneshot.optim import Update, lr_factor, make_optimizer
from mutators.oneshot.paths import Paths, fair, uniform
from mutators.oneshot.progress import Progress
from mutators.oneshot.rng import rng_state, set_rng_state
from search_spaces.schema import Space

LossOfBatch = Callable[[nn.Module, Any], torch.Tensor]

_REPORT_EVERY = 20


class Pruner(Protocol):
    """What makes weights zero as the training goes on, such as those of :mod:`mutators.pruning`."""

    def step(self) -> None: ...
    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any) -> Any: ...


@runtime_checkable
class Stateful(Protocol):
    """A mutator that draws from generators of its own, and says in what state they are."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any) -> Any: ...


class Run:
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
        pruner: Pruner | None = None,
        by_parts: bool = False,
    ) -> None:
        self.pruner = pruner
        self.parts = Parts(model if by_parts else None)
        self.model, self.loader, self.config, self.device = model, loader, config, device
        self.loss_of_batch, self.mutator = loss_of_batch, mutator
        self.amp = config.amp and device.type == "cuda"
        self.update = Update(
            optimizer or make_optimizer(model, config), config.clip_norm, self.amp, narrow=optimizer is None
        )
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
            "pruner": None if self.pruner is None else type(self.pruner).__name__,
            "space": {key: str(domain.to_json()) for key, domain in domains.items()},
            "parameters": sum(p.numel() for p in self.model.parameters()),
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
            self.train_on(to_device(batch, self.device))
            shown.step()
            if self.step % _REPORT_EVERY == 0 or position + 1 == self.steps_per_epoch:
                shown.report(self.step, self._mean_loss(position + 1), self.update.optimizer.param_groups[0]["lr"])
            if position + 1 < self.steps_per_epoch and self.step % (self.config.checkpoint_every or self.steps) == 0:
                self.save(path)
        self.losses.append(self._mean_loss(self.steps_per_epoch))
        self.loss_sum.zero_()
        self.save(path)

    def train_on(self, batch: Any) -> None:
        """Run the paths of this step on one batch, and update once."""
        self.update.clear()
        group = self.paths(self.step)
        for tokens in group:
            self._set(tokens)
            with self.parts:
                with self._precision():
                    loss = self.loss_of_batch(self.model, batch)
                self.update.backward(loss)  # in which checkpointed activations are computed again, with the same parts
            self.parts.collect()
            self.loss_sum += loss.detach() / len(group)
        distributed.average_gradients(self.update.gather())
        self.update.step(lr_factor(self.config, self.step, self.steps, self.steps_per_epoch))
        if self.pruner is not None:
            self.pruner.step()
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
        if isinstance(self.mutator, Stateful):
            self.mutator.load_state_dict(content["mutator"])
        if self.pruner is not None:
            self.pruner.load_state_dict(content["pruner"])
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
                    "mutator": self.mutator.state_dict() if isinstance(self.mutator, Stateful) else None,
                    "pruner": None if self.pruner is None else self.pruner.state_dict(),
                    "base_lrs": self.update.base_lrs,
                    "rng": states,
                    "step": self.step,
                    "losses": self.losses,
                    "loss_sum": float(self.loss_sum),
                },
            )


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
