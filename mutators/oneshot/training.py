"""Train a supernet step by step and epoch by epoch, and save and load the state of its training."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from mutators.base import Mutator
from mutators.checkpoint import from_bytes, to_bytes
from mutators.choices.errors import OneShotError
from mutators.choices.switch import Switch
from mutators.elastic.layers.layer import Elastic
from mutators.elastic.layers.parts import Parts
from mutators.inputs import device_of
from mutators.oneshot import distributed
from mutators.oneshot.checkpoint import check_optimizer, read_checkpoint, write_checkpoint
from mutators.oneshot.config import TrainConfig
from mutators.oneshot.data import count_batches, set_epoch, to_device, walk_batches
from mutators.oneshot.optim import Update, lr_factor, make_optimizer
from mutators.oneshot.paths import Paths, fair, uniform
from mutators.oneshot.precision import choose_half
from mutators.oneshot.rng import get_rng_state, set_rng_state
from search_spaces.progress import Progress
from search_spaces.schema import Space, Tokens

BatchLoss = Callable[[nn.Module, Any], torch.Tensor]
"""(model, batch) to a scalar loss."""

_REPORT_EVERY = 20  # steps: to read the loss waits for a GPU


@runtime_checkable
class Stateful(Protocol):
    """An object whose state can be saved and loaded, such as a mutator with random generators of its own."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any) -> Any: ...


class Pruner(Stateful, Protocol):
    """An object that makes weights zero as the training goes on, such as those of :mod:`mutators.pruning`."""

    def step(self) -> None: ...


class Training:
    """A training of a supernet and its state; arguments as of :func:`mutators.oneshot.train_supernet`.

    Attributes:
        step: number of steps so far.
        losses: mean loss of each epoch so far.
        about: description of the training, which must be the same in all processes and for a resume.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: Any,
        config: TrainConfig,
        batch_loss: BatchLoss,
        *,
        paths: Paths | None = None,
        mutator: Mutator | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        pruner: Pruner | None = None,
        by_parts: bool = False,
    ) -> None:
        self.model, self.loader, self.config, self.batch_loss = model, loader, config, batch_loss
        self.mutator, self.pruner, self.device = mutator, pruner, device_of(model)
        has_elastic = any(isinstance(module, Elastic) for module in model.modules())
        self.parts = Parts(model if by_parts and has_elastic else None)
        self.half = choose_half(config.amp, self.device)
        ours, scale = optimizer is None, self.half is torch.float16
        self.update = Update(optimizer or make_optimizer(model, config), config.clip_norm, scale, narrow=ours)
        self.switch = Switch(model) if mutator is None else None
        self.space = Space({}) if self.switch is None else self.switch.space
        self.paths = paths or {"uniform": uniform, "fair": fair}[config.strategy](self.space, config.seed)
        self.batches_per_epoch = count_batches(loader, config)
        self.steps_per_epoch = math.ceil(self.batches_per_epoch / config.accumulate)
        self.steps = config.epochs * self.steps_per_epoch
        self.step = 0
        self.losses: list[float] = []
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.about = self._describe()

    def _describe(self) -> dict[str, Any]:
        domains = self.mutator.domains if self.mutator is not None else self.space.domains
        return {
            "config": self.config.describe(),
            "steps_per_epoch": self.steps_per_epoch,
            **({"batches_per_epoch": self.batches_per_epoch} if self.config.accumulate > 1 else {}),
            "processes": distributed.count_processes(),
            "optimizer": type(self.update.optimizer).__name__,
            "mutator": None if self.mutator is None else type(self.mutator).__name__,
            "pruner": None if self.pruner is None else type(self.pruner).__name__,
            "space": {key: str(domain.to_json()) for key, domain in domains.items()},
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "first_paths": [[int(token) for token in tokens] for tokens in self.paths(0)],
        }

    def run(self, path: Path | None, show: bool, log_dir: str | PathLike[str] | None) -> None:
        """Train to the end, with checkpoints, a line of progress on stderr, and scalars for TensorBoard."""
        self.model.train()
        writer = _open_tensorboard(log_dir, self.step)
        with Progress(self.steps, done=self.step, show=show) as progress, closing(writer) if writer else nullcontext():
            while self.step < self.steps:
                self._run_epoch(path, progress, writer)

    def _run_epoch(self, path: Path | None, progress: Progress, writer: Any) -> None:
        """Train to the end of the current epoch."""
        epoch, start = divmod(self.step, self.steps_per_epoch)
        set_epoch(self.loader, epoch)
        wanted, size = self.batches_per_epoch, self.config.accumulate
        batches = walk_batches(self.loader, self.config.seed, epoch, start * size, distributed.get_rank())
        for done in range(start + 1, self.steps_per_epoch + 1):
            places = range((done - 1) * size, min(done * size, wanted))
            self.train_on(self._load(batches, epoch, places), len(places))
            if self.step % _REPORT_EVERY == 0 or done == self.steps_per_epoch:
                loss, lr = self._mean_loss(done), self.update.optimizer.param_groups[0]["lr"]
                progress.note = f"loss {loss:.4f}  lr {lr:.2g}"
                if writer:
                    writer.add_scalar("loss", loss, self.step)
                    writer.add_scalar("lr", lr, self.step)
            progress.step()
            if done < self.steps_per_epoch and self.step % (self.config.checkpoint_every or self.steps) == 0:
                self.save(path)
        self.losses.append(self._mean_loss(self.steps_per_epoch))
        self.loss_sum.zero_()
        self.save(path)

    def _load(self, batches: Iterator[Any], epoch: int, places: Iterable[int]) -> Iterator[Any]:
        """Load the batches of a step one after another, so that the device holds one at a time."""
        for place in places:
            batch = next(batches, None)
            if batch is None:
                raise OneShotError(
                    f"the loader ended after {place} batches in epoch {epoch}, wanted {self.batches_per_epoch}."
                )
            yield to_device(batch, self.device)

    def train_on(self, batches: Iterable[Any], n: int = 1) -> None:
        """Run the paths of this step on each of ``n`` batches, and update once, by the mean of their gradients."""
        self.update.clear()
        group = self.paths(self.step)
        if self.mutator is not None:
            self.mutator.reset()
        for batch in batches:
            for tokens in group:
                self._run(tokens, batch, n, len(group))
        distributed.average_gradients(self.update.gather())
        self.update.step(lr_factor(self.config, self.step, self.steps, self.steps_per_epoch))
        if self.pruner is not None:
            self.pruner.step()
        self.step += 1

    def _run(self, tokens: Tokens, batch: Any, n: int, group: int) -> None:
        """Add the gradients of one of ``group`` paths on one of ``n`` batches."""
        if self.switch is not None:
            self.switch.set(tokens)
        with self.parts:
            with torch.autocast(self.device.type, self.half) if self.half else nullcontext():
                loss = self.batch_loss(self.model, batch)
            # In it checkpointed activations are computed again, with the same parts.
            self.update.backward(loss if n == 1 else loss / n)
        self.parts.gather()
        self.loss_sum += loss.detach() / (n * group)

    def _mean_loss(self, batches_done: int) -> float:
        mean = float(self.loss_sum) / batches_done
        if not math.isfinite(mean):
            raise OneShotError(
                f"the loss is {mean} at step {self.step}: lower lr, or give clip_norm or warmup_epochs. "
                "The last checkpoint, if there is one, is from before."
            )
        return mean

    def open(self, path: Path, resume: bool) -> None:
        """Load the checkpoint if it exists; else write the first one."""
        content = read_checkpoint(path, self.about)
        if content is None:
            self.save(path)
            return
        if not resume:
            raise OneShotError(f"there is a checkpoint {path} already: delete it, or let training go on from it.")
        try:
            self._take(content)
        except Exception as error:  # torch's, the mutator's and the pruner's own each have theirs
            raise OneShotError(f"{path} does not fit this training: {type(error).__name__}: {error}") from error

    def _take(self, content: dict[str, Any]) -> None:
        """Take over everything that a checkpoint holds."""
        self.model.load_state_dict(content["model"])
        options = [dict(group) for group in self.update.optimizer.param_groups]
        self.update.optimizer.load_state_dict(content["optimizer"])
        check_optimizer(self.update.optimizer, options, content["base_lrs"])
        self.update.scaler.load_state_dict(content["scaler"])
        self.update.base_lrs = content["base_lrs"]
        if isinstance(self.mutator, Stateful):
            self.mutator.load_state_dict(content["mutator"])
        if self.pruner is not None:
            self.pruner.load_state_dict(content["pruner"])
        self.step, self.losses = content["step"], content["losses"]
        self.loss_sum.fill_(content["loss_sum"])
        set_rng_state(from_bytes(content["rng"][distributed.get_rank()], "the generators' state"))

    def save(self, path: Path | None) -> None:
        """Write a checkpoint; every process has to call this."""
        if path is None:
            return
        states = distributed.gather_bytes(to_bytes(get_rng_state()), self.device)
        if self.step % self.steps_per_epoch:
            self._mean_loss(1)  # raises: never a checkpoint of a diverged network
        if distributed.get_rank() == 0:
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


def _open_tensorboard(log_dir: str | PathLike[str] | None, step: int) -> Any:
    """Return a writer of scalars; None without a folder, or, with a warning, without the package."""
    if log_dir is None:
        return None
    if importlib.util.find_spec("tensorboard") is None:
        warnings.warn("log_dir is given, but tensorboard is not installed: no scalars are written.", stacklevel=4)
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(log_dir), purge_step=step)
