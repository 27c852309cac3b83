"""Set the ratio of pruned weights by the cubic schedule of gradual magnitude pruning (Zhu & Gupta, arXiv:1710.01878).

The ratio depends on the iteration only, so that a training resumes anywhere, also within a period.

Differs: PaddleSlim holds the stable phase for ``floor(stable / pruning * steps)`` periods of ``floor(pruning / steps)``
iterations (12 instead of 20, for example), wants at least ten iterations a step, and has no defaults.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from mutators.choices.errors import PruningError
from search_spaces.checks import between, one_of, share, whole

STRATEGIES = ("gmp", "base")
_LEAST = {"stable_iterations": 0, "pruning_iterations": 1, "tunning_iterations": 0, "resume_iteration": 0}
_EPOCHS = ("stable_epochs", "pruning_epochs", "tunning_epochs")


@dataclass(frozen=True, kw_only=True)
class PruningSchedule:
    """The ratio of pruned weights at each iteration.

    Attributes:
        ratio: the target, reached after the stable and the pruning phase.
        pruning_strategy: "gmp": in ``pruning_steps`` steps; "base": all at once, after the stable phase.
        stable_iterations: length of the first phase, in which nothing is pruned.
        pruning_iterations: length of the second, in which the ratio rises in ``pruning_steps`` equal periods.
        tunning_iterations: length of the third, in which the pruned network trains on at the target.
        resume_iteration: the first iteration of this training, counted from 0.
        pruning_steps: number of periods of the pruning phase.
        initial_ratio: ratio of the first of them.
        compatible: round the phases as PaddleSlim does.
    """

    ratio: float
    pruning_strategy: str = "gmp"
    stable_iterations: int = 0
    pruning_iterations: int = 1000
    tunning_iterations: int = 1000
    resume_iteration: int = 0
    pruning_steps: int
    initial_ratio: float
    compatible: bool = False

    @property
    def total_iterations(self) -> int:
        """Return the length of all three phases: how long to train."""
        return self.stable_iterations + self.pruning_iterations + self.tunning_iterations

    def ratio_at(self, iteration: int) -> float:
        """Return the ratio from this iteration's ``step()`` on."""
        if self.pruning_strategy == "base":
            return self.ratio if iteration >= self.stable_iterations else 0.0
        step = self._step_at(iteration)
        if step < 0:
            return 0.0
        if step >= self.pruning_steps:
            return self.ratio
        return self.initial_ratio + (self.ratio - self.initial_ratio) * (1 + (step / self.pruning_steps - 1) ** 3)

    def _step_at(self, iteration: int) -> int:
        """Return the period of an iteration: negative before the first, ``pruning_steps`` after the last."""
        if self.compatible:
            stable = int(self.stable_iterations / self.pruning_iterations * self.pruning_steps)
            return iteration // (self.pruning_iterations // self.pruning_steps) - stable
        return (iteration - self.stable_iterations) * self.pruning_steps // self.pruning_iterations


KEYS = tuple(field.name for field in fields(PruningSchedule) if field.name not in ("ratio", "compatible"))


def iterations(
    steps_per_epoch: int, *, stable_epochs: int = 0, pruning_epochs: int = 60, tunning_epochs: int = 60
) -> dict[str, int]:
    """Return the phases of ``configs`` in iterations, from epochs.

    Args:
        steps_per_epoch: optimizer steps an epoch, at least 1: how often ``step()`` is called.
        stable_epochs: in which nothing is pruned.
        pruning_epochs: in which the ratio rises, at least 1.
        tunning_epochs: in which the pruned network trains on.

    Raises:
        PruningError: numbers do not fit; all of them are named.

    >>> iterations(100, pruning_epochs=2, tunning_epochs=1)
    {'stable_iterations': 0, 'pruning_iterations': 200, 'tunning_iterations': 100}
    """
    epochs = {"stable_epochs": stable_epochs, "pruning_epochs": pruning_epochs, "tunning_epochs": tunning_epochs}
    problems = whole("steps_per_epoch", steps_per_epoch, 1)
    for name, value in epochs.items():
        problems += whole(name, value, int(name == "pruning_epochs"))
    if problems:
        raise PruningError(f"epochs do not give iterations ({len(problems)} wrong):", problems)
    return {name.replace("epochs", "iterations"): int(value * steps_per_epoch) for name, value in epochs.items()}


def read_schedule(configs: Mapping[str, Any] | None, ratio: float, compatible: bool) -> PruningSchedule:
    """Return the schedule of checked ``configs``; by default 100 steps from 0.15 on, or fewer from less."""
    given = {key: as_plain(value) for key, value in (configs or {}).items()}
    given.setdefault("pruning_steps", min(100, given.get("pruning_iterations", PruningSchedule.pruning_iterations)))
    given.setdefault("initial_ratio", min(0.15, as_plain(ratio)))
    return PruningSchedule(ratio=as_plain(ratio), compatible=compatible, **given)


def check_configs(configs: Mapping[str, Any] | None, ratio: Any) -> list[str]:
    """Return all problems of ``ratio`` and ``configs``."""
    problems = check_ratio(ratio)
    if configs is not None and not isinstance(configs, Mapping):
        return [*problems, f"configs is a {type(configs).__name__}, wanted a dict of {', '.join(KEYS)}"]
    given = dict(configs or {})
    problems += [_unknown_key(key) for key in given if key not in KEYS]
    problems += one_of("pruning_strategy", given.get("pruning_strategy", "gmp"), STRATEGIES)
    for key, least in {**_LEAST, "pruning_steps": 1}.items():
        problems += whole(key, given.get(key, least), least)
    if problems:
        return problems
    problems = between("initial_ratio", as_plain(given.get("initial_ratio", 0)), 0, as_plain(ratio))
    length = given.get("pruning_iterations", PruningSchedule.pruning_iterations)
    steps = given.get("pruning_steps", 1)
    if length < steps:
        problems.append(
            f"pruning_iterations is {length}, fewer than the {steps} pruning_steps: "
            f"give at least {steps} iterations, or at most {length} steps"
        )
    return problems


def check_ratio(ratio: Any) -> list[str]:
    """Return the problem of a target ratio, if there is one."""
    return share("ratio", as_plain(ratio))


def as_plain(value: Any) -> Any:
    """Return NumPy's numbers as Python's own, which any file takes; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _unknown_key(key: Any) -> str:
    if key in _EPOCHS:
        return f"configs has {key!r}, wanted iterations: mutators.pruning.iterations(steps_per_epoch, {key}=...)"
    near = difflib.get_close_matches(str(key), KEYS, n=1)
    return f"configs has {key!r}, " + (f"did you mean {near[0]!r}?" if near else f"wanted some of {', '.join(KEYS)}")
