"""How a supernet is trained: the options, as plain data that checks itself and stands in the checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mutators.oneshot.errors import OneShotError
from search_spaces.checks import is_int, is_number

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("cosine", "linear", "constant")
STRATEGIES = ("uniform", "fair")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of :func:`mutators.oneshot.train_supernet`.

    Single Path One-Shot trains ShuffleNetV2 on ImageNet, at batch size 1024, by
    ``TrainConfig(epochs=120, lr=0.5, schedule="linear", label_smoothing=0.1)``.

    Attributes:
        epochs: passes over the loader.
        optimizer: "sgd" or "adamw". Nothing of this and the next three counts if an optimizer is given.
        lr: learning rate at its highest.
        momentum: of SGD.
        weight_decay: on weights of two or more dimensions only: neither on biases nor on batch norms.
        schedule: of the learning rate, down to 0: "cosine", "linear"; or "constant".
        warmup_epochs: during which the learning rate rises linearly first; may be a fraction.
        label_smoothing: of the default loss, cross-entropy.
        amp: compute in half precision on a GPU, with scaled gradients; without effect on a CPU.
        clip_norm: the norm that all gradients together are cut to; None: they are not.
        strategy: what path a step trains: "uniform" or "fair"; see :mod:`mutators.oneshot.paths`.
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
        problems = [*self._bad_names(), *self._bad_counts(), *self._bad_numbers()]
        if problems:
            raise OneShotError(f"TrainConfig does not fit ({len(problems)} wrong):", problems)

    def to_json(self) -> dict[str, Any]:
        """All options by name."""
        return asdict(self)

    def _bad_names(self) -> list[str]:
        known = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "strategy": STRATEGIES, "amp": (True, False)}
        return [
            f"{name} is {getattr(self, name)!r}, wanted one of {', '.join(map(str, options))}"
            for name, options in known.items()
            if getattr(self, name) not in options
        ]

    def _bad_counts(self) -> list[str]:
        found = []
        for name, least in (("epochs", 1), ("seed", 0), ("steps_per_epoch", 1), ("checkpoint_every", 1)):
            value = getattr(self, name)
            optional = name in ("steps_per_epoch", "checkpoint_every")
            if not (value is None and optional) and not (is_int(value) and value >= least):
                found.append(f"{name} is {value!r}, wanted an integer of at least {least}{' or None' * optional}")
        return found

    def _bad_numbers(self) -> list[str]:
        found = []
        for name, end in (("momentum", 1), ("label_smoothing", 1), ("weight_decay", None), ("warmup_epochs", None)):
            value = getattr(self, name)
            if not is_number(value) or value < 0 or (end is not None and value >= end):
                found.append(f"{name} is {value!r}, wanted at least 0" + (f" and less than {end}" if end else ""))
        for name in ("lr", "clip_norm"):
            value = getattr(self, name)
            if not (value is None and name == "clip_norm") and not (is_number(value) and value > 0):
                found.append(f"{name} is {value!r}, wanted a number greater than 0")
        return found
