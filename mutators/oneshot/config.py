"""Options of supernet training, as plain data that checks itself and stands in the checkpoint."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

from mutators.choices.errors import OneShotError
from search_spaces.checks import above, between, one_of, share, whole

OPTIMIZERS = ("sgd", "adamw")
STRATEGIES = ("uniform", "fair")
HALVES = ("bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of :func:`mutators.oneshot.train_supernet`. A step is one update of the weights.

    Single Path One-Shot trains ShuffleNetV2 on ImageNet, at batch size 1024, by
    ``TrainConfig(epochs=120, lr=0.5, schedule="linear", label_smoothing=0.1)``.

    Attributes:
        epochs: passes over the loader.
        optimizer: "sgd" or "adamw". It and the next three are not used if an optimizer is given.
        lr: highest learning rate.
        momentum: of SGD.
        weight_decay: on weights of two or more dimensions only: neither on biases nor on batch norms.
        schedule: of the learning rate, down to 0: "cosine", "linear"; or "constant".
        warmup_epochs: during which the learning rate rises linearly first; may be a fraction.
        label_smoothing: of the default loss, cross-entropy.
        amp: compute in half precision, as ``torch.autocast`` has it, with weights and updates as they are:
            "bfloat16", on a CPU too; or "float16", on a GPU only, with scaled gradients. None or False: do not.
            Deprecated: True, which is "float16" on a GPU and without effect on a CPU.
        accumulate: batches a step, all run by the same paths, whose gradients are averaged before the one update: the
            step of a batch so many times as large, where no batch norm looks at the batch. Batches count alike,
            whatever their sizes. What an epoch leaves over makes a last, smaller step. Schedules, paths, pruners,
            checkpoints and ``steps_per_epoch`` count steps.
        clip_norm: largest norm of all gradients together; None: they are not clipped.
        strategy: which paths a step trains: "uniform" or "fair"; see :mod:`mutators.oneshot.paths`.
        seed: of the paths and of the order of the data, at least 0.
        steps_per_epoch: of a loader that has no length, or to use a part of it; None: all of it.
        checkpoint_every: steps between two checkpoints, beside those at the end of each epoch; None: only those.

    Raises:
        OneShotError: numbers or names do not fit; all that is wrong is listed.
    """

    epochs: int
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 4e-5
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    amp: str | bool | None = False
    accumulate: int = 1
    clip_norm: float | None = None
    strategy: str = "uniform"
    seed: int = 0
    steps_per_epoch: int | None = None
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        problems = [
            *whole("epochs", self.epochs, 1),
            *one_of("optimizer", self.optimizer, OPTIMIZERS),
            *above("lr", self.lr, 0),
            *share("momentum", self.momentum),
            *between("weight_decay", self.weight_decay, 0),
            *one_of("schedule", self.schedule, ("cosine", "linear", "constant")),
            *between("warmup_epochs", self.warmup_epochs, 0),
            *share("label_smoothing", self.label_smoothing),
            *([] if isinstance(self.amp, bool | None) else one_of("amp", self.amp, HALVES)),
            *whole("accumulate", self.accumulate, 1),
            *([] if self.clip_norm is None else above("clip_norm", self.clip_norm, 0)),
            *one_of("strategy", self.strategy, STRATEGIES),
            *whole("seed", self.seed, 0),
            *whole("steps_per_epoch", self.steps_per_epoch, 1, optional=True),
            *whole("checkpoint_every", self.checkpoint_every, 1, optional=True),
        ]
        if problems:
            raise OneShotError(f"TrainConfig does not fit ({len(problems)} wrong):", problems)
        if self.amp is True:
            message = "amp=True: write amp='float16', or amp='bfloat16', which needs no scaled gradients."
            warnings.warn(message, DeprecationWarning, stacklevel=3)

    def to_json(self) -> dict[str, Any]:
        """Return all options by name."""
        return asdict(self)

    def describe(self) -> dict[str, Any]:
        """Return the options that decide a training's numbers, as checkpoints of all versions have them."""
        options = self.to_json()
        del options["checkpoint_every"]
        if self.accumulate == 1:  # not known to earlier versions, as the names of amp are not
            del options["accumulate"]
        return {**options, "amp": True if self.amp == "float16" else self.amp or False}
