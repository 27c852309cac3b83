"""When how much is pruned: the cubic schedule of gradual magnitude pruning (Zhu & Gupta, arXiv:1710.01878), as data.

The ratio is a function of the iteration alone, so that a training resumes anywhere, also within a period.

Differs: PaddleSlim holds the stable phase for ``floor(stable / pruning * steps)`` periods of ``floor(pruning / steps)``
iterations (12 instead of 20, say), wants at least ten iterations a step, and has no defaults.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mutators.choices.errors import PruningError
from search_spaces.checks import is_int, is_number

STRATEGIES = ("gmp", "base")
_STEPS, _INITIAL = 100, 0.15
_LEAST = {"stable_iterations": 0, "pruning_iterations": 1, "tunning_iterations": 0, "resume_iteration": 0}
_DEFAULTS: dict[str, Any] = {
    "pruning_strategy": "gmp",
    "stable_iterations": 0,
    "pruning_iterations": 1000,
    "tunning_iterations": 1000,
    "resume_iteration": 0,
}
KEYS = (*_DEFAULTS, "pruning_steps", "initial_ratio")
_EPOCHS = ("stable_epochs", "pruning_epochs", "tunning_epochs")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The ratio of pruned weights at each iteration.

    Attributes:
        ratio: the target, reached after the stable and the pruning phase.
        pruning_strategy: "gmp": in ``pruning_steps`` steps; "base": all at once, after the stable phase.
        stable_iterations: in which nothing is pruned.
        pruning_iterations: in which the ratio rises from ``initial_ratio``, in ``pruning_steps`` equal periods.
        tunning_iterations: in which the pruned network trains on, at the target.
        resume_iteration: the first one of this run, counted from 0.
        pruning_steps: of the pruning phase.
        initial_ratio: of the first period of the pruning phase.
        compatible: round the phases as PaddleSlim does.
    """

    ratio: float
    pruning_strategy: str
    stable_iterations: int
    pruning_iterations: int
    tunning_iterations: int
    resume_iteration: int
    pruning_steps: int
    initial_ratio: float
    compatible: bool = False

    @property
    def total_iterations(self) -> int:
        """Of all three phases: how long to train."""
        return self.stable_iterations + self.pruning_iterations + self.tunning_iterations

    def ratio_at(self, iteration: int) -> float:
        """The ratio in force from this iteration's ``step()`` on."""
        if self.pruning_strategy == "base":
            return self.ratio if iteration >= self.stable_iterations else 0.0
        step = self._step_at(iteration)
        if step < 0:
            return 0.0
        if step >= self.pruning_steps:
            return self.ratio
        return self.initial_ratio + (self.ratio - self.initial_ratio) * (1 + (step / self.pruning_steps - 1) ** 3)

    def _step_at(self, iteration: int) -> int:
        """Which pruning step an iteration belongs to: negative before the first, ``pruning_steps`` after the last."""
        if self.compatible:
            stable = int(self.stable_iterations / self.pruning_iterations * self.pruning_steps)
            return iteration // (self.pruning_iterations // self.pruning_steps) - stable
        return (iteration - self.stable_iterations) * self.pruning_steps // self.pruning_iterations


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
    problems = [] if _is_count(steps_per_epoch, 1) else [_wanted_count("steps_per_epoch", steps_per_epoch, 1)]
    for name, value in epochs.items():
        least = int(name == "pruning_epochs")
        if not _is_count(value, least):
            problems.append(_wanted_count(name, value, least))
    if problems:
        raise PruningError(f"epochs do not give iterations ({len(problems)} wrong):", problems)
    return {name.replace("epochs", "iterations"): int(value * steps_per_epoch) for name, value in epochs.items()}


def read_schedule(configs: Mapping[str, Any] | None, ratio: float, compatible: bool) -> Schedule:
    """Fill in the defaults: 100 steps and 0.15 at first, or fewer and less where the rest allows no more.

    Args:
        configs, ratio: with no :func:`schedule_problems`.
        compatible: round the phases as PaddleSlim does.
    """
    given = {**_DEFAULTS, **{key: plain(value) for key, value in (configs or {}).items()}}
    given.setdefault("pruning_steps", min(_STEPS, given["pruning_iterations"]))
    given.setdefault("initial_ratio", min(_INITIAL, plain(ratio)))
    return Schedule(ratio=plain(ratio), compatible=compatible, **given)


def schedule_problems(configs: Mapping[str, Any] | None, ratio: Any) -> list[str]:
    """What is wrong with ``ratio`` and ``configs``; all of it."""
    problems = ratio_problems(ratio)
    if configs is not None and not isinstance(configs, Mapping):
        return [*problems, f"configs is a {type(configs).__name__}, wanted a dict of {', '.join(KEYS)}"]
    given = dict(configs or {})
    problems += [_unknown(key) for key in given if key not in KEYS]
    strategy = given.get("pruning_strategy", "gmp")
    if strategy not in STRATEGIES:
        problems.append(f"pruning_strategy is {strategy!r}, wanted one of {', '.join(STRATEGIES)}")
    problems += [
        _wanted_count(key, given[key], least)
        for key, least in {**_LEAST, "pruning_steps": 1}.items()
        if key in given and not _is_count(given[key], least)
    ]
    return problems or [*_bad_initial(given, ratio), *_bad_steps(given)]


def ratio_problems(ratio: Any) -> list[str]:
    """What is wrong with a target ratio."""
    if is_number(plain(ratio)) and 0 <= ratio < 1:
        return []
    return [f"ratio is {ratio!r}, wanted the share of weights to prune: at least 0, less than 1, such as 0.75"]


def plain(value: Any) -> Any:
    """A number of NumPy's as Python's own, which any file takes; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _bad_initial(given: Mapping[str, Any], ratio: float) -> list[str]:
    initial = plain(given.get("initial_ratio", 0))
    if is_number(initial) and 0 <= initial <= ratio:
        return []
    return [f"initial_ratio is {initial!r}, wanted a number from 0 to the ratio, {ratio}"]


def _bad_steps(given: Mapping[str, Any]) -> list[str]:
    length, steps = given.get("pruning_iterations", _DEFAULTS["pruning_iterations"]), given.get("pruning_steps", 1)
    if length >= steps:
        return []
    return [
        f"pruning_iterations is {length}, fewer than the {steps} pruning_steps: "
        f"give at least {steps} iterations, or at most {length} steps"
    ]


def _unknown(key: Any) -> str:
    if key in _EPOCHS:
        return f"configs has {key!r}, wanted iterations: mutators.pruning.iterations(steps_per_epoch, {key}=...)"
    near = difflib.get_close_matches(str(key), KEYS, n=1)
    return f"configs has {key!r}, " + (f"did you mean {near[0]!r}?" if near else f"wanted some of {', '.join(KEYS)}")


def _is_count(value: Any, least: int) -> bool:
    return is_int(value) and value >= least


def _wanted_count(name: str, value: Any, least: int) -> str:
    return f"{name} is {value!r}, wanted an integer of at least {least}"
