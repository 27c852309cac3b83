"""Options of supernet training, as plain data that checks itself and stands in the checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mutators.choices.errors import OneShotError
from search_spaces.checks import above, between, one_of, share, whole

OPTIMIZERS = ("sgd", "adamw")
STRATEGIES = ("uniform", "fair")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of :func:`mutators.oneshot.train_supernet`.

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
        amp: compute in half precision on a GPU, with scaled gradients; without effect on a CPU.
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
    amp: bool = False
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
            *([] if self.amp in (True, False) else [f"amp is {self.amp!r}, wanted True or False"]),
            *([] if self.clip_norm is None else above("clip_norm", self.clip_norm, 0)),
            *one_of("strategy", self.strategy, STRATEGIES),
            *whole("seed", self.seed, 0),
            *whole("steps_per_epoch", self.steps_per_epoch, 1, optional=True),
            *whole("checkpoint_every", self.checkpoint_every, 1, optional=True),
        ]
        if problems:
            raise OneShotError(f"TrainConfig does not fit ({len(problems)} wrong):", problems)

    def to_json(self) -> dict[str, Any]:
        """Return all options by name."""
        return asdict(self)
