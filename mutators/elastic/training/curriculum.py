"""Decide which part of a supernet is open, by epoch or by hand, and draw sub-networks from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mutators.choices.errors import ElasticError
from mutators.elastic.training.config import RunConfig
from search_spaces.checks import whole
from search_spaces.phases.phase import Phase, find_elastic_parts
from search_spaces.phases.schedule import Region, Schedule
from search_spaces.phases.shrinking import progressive
from search_spaces.schema import Space, Tokens


class Curriculum:
    """The phases of a training, and its position in them.

    The sub-networks of a step depend on the seed, the step's number and the part that is open, and on nothing else.

    Attributes:
        schedule: None where everything is open from the first step.
        train_full: whether only the largest sub-network is drawn.
        fixed: the one sub-network that is drawn, or None.

    Raises:
        ElasticError: an order without phases, or not one number of sub-networks a task.
        PhaseError: the order or the epochs do not fit the space.
    """

    def __init__(self, space: Space, config: RunConfig, elastic_order: Sequence[str] | None) -> None:
        self.space, self.config = space, config
        self.schedule: Schedule | None = None
        if config.phases is not None:
            self.schedule = Schedule(space, config.phases)
        elif config.n_epochs is not None:
            self.schedule = Schedule(space, progressive(space, elastic_order, config.n_epochs))
        if elastic_order is not None and config.n_epochs is None:
            raise ElasticError("elastic_order says which task comes first, and needs n_epochs to say when.")
        phases = () if self.schedule is None else self.schedule.phases
        self._tasks = list(dict.fromkeys(phase.task for phase in phases))
        if len(config.group_sizes) not in (1, max(1, len(self._tasks))):
            raise ElasticError(
                f"dynamic_batch_size has {len(config.group_sizes)} numbers, "
                f"wanted one for all tasks or one for each of {self._tasks or ['all']}."
            )
        self._whole = Schedule(space, [Phase("all", tuple((part, "all") for part in find_elastic_parts(space)))])
        self.train_full = False
        self.fixed: Tokens | None = None
        self.step = 0
        self._epoch: int | None = None
        self._task: tuple[list[str], int | None] | None = None

    @property
    def by_hand(self) -> bool:
        """Return whether the open part is set by hand, whatever the epoch."""
        return self.train_full or self.fixed is not None or self._task is not None

    @property
    def largest(self) -> Tokens:
        """Return the largest sub-network."""
        return self._whole.largest(0)

    @property
    def epoch(self) -> int:
        """Return the epoch that was set, or else that of the steps under the configuration; 0 without one."""
        images, batch = self.config.total_images, self.config.train_batch_size
        if self._epoch is not None:
            return self._epoch
        return self.step // (images // batch) if images and batch else 0

    @property
    def phase(self) -> int:
        """Return the index of the phase that the epoch is in; 0 without a schedule."""
        return 0 if self.schedule is None else self.schedule.at(self.epoch)

    def set_epoch(self, epoch: int | None) -> None:
        """Set the epoch; see :meth:`mutators.elastic.OFA.set_epoch`."""
        if problems := whole("epoch", epoch, 0, optional=True):
            raise ElasticError(f"{problems[0]}.")
        self._epoch = None if epoch is None else int(epoch)

    def set_task(self, task: str | Sequence[str] | None, phase: int | None = None) -> None:
        """Open tasks by hand; see :meth:`mutators.elastic.OFA.set_task`.

        Differs: in PaddleSlim "width" opens nothing, a single name ignores the phase, and there is no way back.
        """
        if task is not None:
            self._whole.of_task(task, phase)  # raises what is wrong
        self._task = None if task is None else ([task] if isinstance(task, str) else list(task), phase)

    def region(self) -> Region:
        """Return the part of the space that is open now."""
        if self._task is not None:
            return self._whole.of_task(*self._task)
        return self._whole.region(0) if self.schedule is None else self.schedule.region(self.phase)

    def subnets(self, step: int) -> list[Tokens]:
        """Return the sub-networks of a step: the same for the same number, as long as the same part is open."""
        if self.train_full:
            return [self.largest]
        if self.fixed is not None:
            return [self.fixed]
        region, sizes = self.region(), self.config.group_sizes
        task = 0 if self.schedule is None else self._tasks.index(self.schedule.phase(self.phase).task)
        n = sizes[task if len(sizes) > 1 else 0]
        rng = np.random.default_rng((self.config.seed, step))
        ends = [region.largest(), region.smallest()] if self.config.sandwich else []
        return [*ends, *map(tuple, region.draws(rng, n - len(ends)).tolist())]

    def state(self) -> dict[str, Any]:
        """Return the position of the training, as plain data."""
        return {"step": self.step, "epoch": self._epoch, "task": self._task}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a position that :meth:`state` returned. Raises ElasticError if it is something else."""
        try:
            step, epoch, task = (state[name] for name in ("step", "epoch", "task"))
            names, phase = ([], None) if task is None else task
        except (LookupError, TypeError, ValueError):
            raise ElasticError(f"{state!r} is no position of an OFA's training.") from None
        problems = [*whole("step", step, 0), *whole("epoch", epoch, 0, optional=True)]
        if task is not None:
            try:
                self._whole.of_task(names, phase)
            except (LookupError, TypeError, ValueError) as error:
                problems.append(f"the task is {task!r}: {error}")
        if problems:
            raise ElasticError(f"this is no position of an OFA's training: {'; '.join(problems)}.")
        self.step, self._epoch, self._task = step, epoch, None if task is None else (list(names), phase)
