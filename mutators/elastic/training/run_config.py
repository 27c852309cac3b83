"""Check the options of progressive shrinking. After PaddleSlim's ``RunConfig``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mutators.choices.errors import ElasticError
from search_spaces.checks import is_int, is_number, one_of, whole
from search_spaces.phases.phase import Phase

REDUCTIONS = ("sum", "mean")


@dataclass(frozen=True)
class RunConfig:
    """Options of :class:`mutators.elastic.OFA`.

    Attributes:
        train_batch_size: images a step, over all processes; needed where the epoch is to follow from the steps.
        n_epochs: by task and phase, the last epoch of the phase, counted from 0 over all of them and inclusive:
            ``[[1], [2, 3], [4, 5]]``. None: everything is open from the first step.
        total_images: an epoch's; the epoch is then ``steps // (total_images // train_batch_size)``, unless
            ``set_epoch`` says otherwise.
        elastic_depth: options of a ``depth`` that the model's forward takes as an argument: counts, or fractions.
        dynamic_batch_size: sub-networks a step, for all tasks or one number a task.
        phases: instead of ``n_epochs``, phases with budgets in epochs.
        sandwich: a step runs the largest and the smallest sub-network of the phase, and random ones beside them; all
            but the largest learn from its outputs (BigNAS, Yu et al., ECCV 2020, arXiv:2003.11142).
        sandwich_fn: their loss: (outputs, the largest's outputs) to a scalar; None: cross-entropy with the largest's
            softmax, of logits with classes along dimension 1. Wanted for a regression (``F.mse_loss``), and for
            sequences (N, L, C).
        reduction: of a step's gradients over its sub-networks: "sum", as Once-for-all's authors have it, or "mean".
        seed: of the sub-networks drawn.

    Raises:
        ElasticError: numbers do not fit; all that is wrong is listed.

    Differs: without ``dynamic_batch_size`` one sub-network a step is run, where PaddleSlim then never leaves the first
    phase; no learning rate, which is the optimizer's.
    """

    train_batch_size: int | None = None
    n_epochs: Sequence[Sequence[int]] | None = None
    total_images: int | None = None
    elastic_depth: Sequence[float] | None = None
    dynamic_batch_size: int | Sequence[int] = 1
    phases: Sequence[Phase] | None = None
    sandwich: bool = False
    reduction: str = "sum"
    seed: int = 0
    sandwich_fn: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        problems = whole("train_batch_size", self.train_batch_size, 1, optional=True)
        problems += whole("total_images", self.total_images, 1, optional=True) + whole("seed", self.seed, 0)
        problems += one_of("reduction", self.reduction, REDUCTIONS)
        if self.train_batch_size and self.total_images and self.total_images < self.train_batch_size:
            problems.append(f"total_images is {self.total_images}, less than a batch of {self.train_batch_size}")
        if not all(is_int(size) and size > 0 for size in self.group_sizes) or not self.group_sizes:
            problems.append(f"dynamic_batch_size is {self.dynamic_batch_size!r}, wanted whole numbers from 1 up")
        if self.sandwich and min(self.group_sizes, default=2) < 2:
            problems.append("a sandwich has two sub-networks at least: wanted dynamic_batch_size of 2 or more")
        if self.sandwich_fn is not None and not (self.sandwich and callable(self.sandwich_fn)):
            problems.append(f"sandwich_fn is {self.sandwich_fn!r}, wanted a function, and sandwich=True, or None")
        if self.n_epochs is not None and self.phases is not None:
            problems.append("n_epochs and phases are both given, wanted one of them")
        if self.elastic_depth is not None and not (
            self.elastic_depth and all(is_number(depth) and depth > 0 for depth in self.elastic_depth)
        ):
            problems.append(f"elastic_depth is {self.elastic_depth!r}, wanted numbers above 0")
        if problems:
            raise ElasticError(f"RunConfig does not fit ({len(problems)} wrong):", problems)

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """Sub-networks a step, by task; one number for all where only one was given."""
        size = self.dynamic_batch_size
        return tuple(size) if isinstance(size, Sequence) else (size,)
