"""Once for all: a supernet, what of it is open, what it learns from, and the steps that train it.

Cai et al., ICLR 2020, arXiv:1908.09791, with the interface of PaddleSlim's ``OFA``. Differs: a configuration is checked
when it is set; ``train_step`` runs the sub-networks of a batch and accumulates their gradients, where PaddleSlim's user
calls the model as often himself; what is drawn is a function of the seed and the step, so that it is the same in every
process and after a kill; the phased task is the current one whatever the order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mutators.choices.switch import Switch
from mutators.choices.value_choice import ValueChoice
from mutators.elastic.export import export as exporting
from mutators.elastic.given_depth import given_depth
from mutators.elastic.layers.errors import ElasticError
from mutators.elastic.notation import Config, to_choices
from mutators.elastic.search import search as searching
from mutators.elastic.training.curriculum import Curriculum
from mutators.elastic.training.distill import Distiller, Stamp, teacher_of
from mutators.elastic.training.distill_config import DistillConfig
from mutators.elastic.training.outputs import detached, soft_cross_entropy
from mutators.elastic.training.run_config import RunConfig
from search_spaces.phases.schedule import Region, Schedule
from search_spaces.schema import Choices, Space, Tokens

Loss = Callable[[Any, Any], torch.Tensor]
Batch = Sequence[Any]


class OFA(nn.Module):
    """A supernet and its training.

    In training mode each forward draws a sub-network of the phase now open and runs it; in evaluation mode it runs what
    was drawn or set last. With a teacher it returns (outputs, teacher's outputs), as PaddleSlim's does.

    Args:
        model: elastic, as :func:`mutators.elastic.convert` or ``search_spaces.build("ofa_mobilenet_v3")`` gives it; it
            is trained in place.
        run_config: None: everything is open from the first step.
        distill_config: None: no teacher.
        elastic_order: of "kernel_size", "width" (or "expand_ratio", "channel") and "depth"; None: in this order those
            that the model has. Once-for-all's authors have kernel_size, depth, width.
        train_full: run the largest network only.

    Attributes:
        space: what can be chosen.

    Raises:
        ElasticError: the model has nothing elastic, or does not fit the configurations.
        PhaseError: the order or the epochs do not fit the model's space.
    """

    WRAPS = "model"  # keys are the model's own

    def __init__(
        self,
        model: nn.Module,
        run_config: RunConfig | None = None,
        distill_config: DistillConfig | None = None,
        elastic_order: Sequence[str] | None = None,
        train_full: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.run_config = model, run_config or RunConfig()
        with given_depth(model, self.run_config.elastic_depth) as self._depth:
            self._switch = Switch(model)
            self.space: Space = self._switch.space
            if not len(self.space):
                raise ElasticError(f"{type(model).__name__} has nothing elastic: convert(model, ...) makes it so.")
            self.curriculum = Curriculum(self.space, self.run_config, elastic_order)
            self.curriculum.train_full = train_full
            self.distiller: Distiller | None = None
            if distill_config is not None:
                self.distiller = Distiller(model, teacher_of(model, distill_config), distill_config)
        self._calls = 0
        self._soft: tuple[Stamp, Any] | None = None
        self.set(self.curriculum.largest)

    def __getstate__(self) -> dict[str, Any]:
        """Without the last batch: copies start with another one."""
        return {**self.__dict__, "_soft": None}

    @property
    def schedule(self) -> Schedule | None:
        """The phases; None where everything is open from the first step."""
        return self.curriculum.schedule

    @property
    def step(self) -> int:
        """How many steps were trained; part of the state dict, as the epoch and the task are."""
        return self.curriculum.step

    @property
    def epoch(self) -> int:
        """The one that was set, or else what follows from the steps and the run's configuration; 0 if nothing does."""
        return self.curriculum.epoch

    def set_epoch(self, epoch: int | None) -> None:
        """Say which epoch it is, from 0; None: it follows from the steps again.

        Raises:
            ElasticError: it is no whole number from 0 up.
        """
        self.curriculum.set_epoch(epoch)

    def set_task(self, task: str | Sequence[str] | None, phase: int | None = None) -> None:
        """Open tasks by hand, whatever the epoch; None: the schedule counts again.

        Args:
            task: "kernel_size", "width", "expand_ratio", "channel", "depth", or several of them, the last of which
                has the phase; those not named are at their largest.
            phase: the last task offers its ``phase + 2`` largest options; None: all.

        Raises:
            PhaseError: a task is unknown or the model does not have it, or the phase is no number from 0 up.

        Differs: in PaddleSlim "width" opens nothing, a single name ignores the phase, and there is no way back.
        """
        self.curriculum.set_task(task, phase)

    def set_net_config(self, config: Config | None) -> None:
        """Run one sub-network from now on; None: draw again.

        Args:
            config: in any notation; see :mod:`mutators.elastic.notation`. Keys not named are at their largest.

        Raises:
            ElasticError: it does not fit the model; everything that is wrong is listed.
        """
        fixed = None if config is None else self.space.encode(self.choices_of(config))
        self.curriculum.fixed = fixed
        if fixed is not None:
            self.set(fixed)

    def set(self, tokens: Tokens) -> None:
        """Run this sub-network next, without checks."""
        self._active = tokens
        self._switch.set(tokens)

    @property
    def current_config(self) -> Choices:
        """The sub-network that was drawn or set last, as choices."""
        return self.space.decode(self._active)

    def choices_of(self, config: Config) -> Choices:
        """The choices that a configuration in any notation stands for.

        Raises:
            ElasticError: it does not fit the model.
        """
        return to_choices(self.model, config)

    def region(self) -> Region:
        """What is open now."""
        return self.curriculum.region()

    def forward(self, *inputs: Any, **others: Any) -> Any:
        """The model's arguments to its outputs, or to (outputs, teacher's outputs)."""
        taught = None if self.distiller is None else self.distiller.teach(inputs, others)
        if self.training:
            group = self.curriculum.subnets(self.step)
            self.set(group[self._calls % len(group)])
            self._calls += 1
            if self._calls % len(group) == 0:
                self._next_step()
        outputs = self.run(*inputs, **others)
        return outputs if self.distiller is None else (outputs, taught)

    def run(self, *inputs: Any, **others: Any) -> Any:
        """The model's arguments to its outputs, by the sub-network that is set."""
        if self._depth is not None:
            others = {**others, "depth": self._depth.value}
        if self.distiller is None:
            return self.model(*inputs, **others)
        with self.distiller.watching():
            return self.model(*inputs, **others)

    def train_step(
        self, batch: Batch, loss_fn: Loss | None = None, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.Tensor:
        """Run the sub-networks of this step on a batch, accumulate their gradients, and update.

        Args:
            batch: (inputs, targets).
            loss_fn: (outputs, targets) to a scalar; None: cross-entropy. The distillation's losses are added to it.
            optimizer: over ``ofa.parameters()``; None: leave the gradients to the caller, who has cleared them.

        Returns: the mean loss of the sub-networks, (), detached.

        Raises:
            ElasticError: see :meth:`loss_of`.
        """
        self.forget()  # a step that failed half-way may have left something
        if optimizer is not None:
            optimizer.zero_grad(set_to_none=True)
        group, losses = self.curriculum.subnets(self.step), []
        for tokens in group:
            self.set(tokens)
            loss = self.loss_of(batch, loss_fn)
            self.scaled(loss, len(group)).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        self._next_step()
        self.forget()
        if optimizer is not None:
            optimizer.step()
        return torch.stack(losses).mean()

    def loss_of(self, batch: Batch, loss_fn: Loss | None = None) -> torch.Tensor:
        """The loss of the sub-network that is set, distillation included: ().

        In a sandwich, the one that comes first after :meth:`forget` is the others' teacher.

        Raises:
            ElasticError: the batch is no pair, the teacher adds nothing, or outputs or layers cannot be compared.
        """
        inputs, targets = _pair(batch)
        given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        if self.distiller is not None and self.distiller.idle:
            raise ElasticError(
                "the teacher adds nothing to the loss: name mapping_layers or set lambda_logits in DistillConfig, or "
                "call the OFA itself, which returns (outputs, teacher's outputs), and compare them."
            )
        taught = None if self.distiller is None else self.distiller.teach(given, {})
        outputs, stamp = self.run(*given), Stamp(inputs)
        if self._soft is not None and self._soft[0] == stamp:  # from the largest, which came first
            loss = (self.run_config.sandwich_fn or soft_cross_entropy)(outputs, self._soft[1])
        else:
            loss = F.cross_entropy(outputs, targets) if loss_fn is None else loss_fn(outputs, targets)
            self._soft = (stamp, detached(outputs)) if self.run_config.sandwich else None
        if self.distiller is not None and self.distiller.pairs:
            loss = loss + self.calc_distill_loss()
        if self.distiller is not None and self.distiller.config.lambda_logits:
            loss = loss + self.distiller.of_outputs(outputs, taught)
        return loss

    def calc_distill_loss(self) -> torch.Tensor:
        """The layers' loss of the last forward, weighted by ``lambda_distill``: ().

        Raises:
            ElasticError: there is no teacher, or no layers to compare, or nothing ran yet.
        """
        if self.distiller is None:
            raise ElasticError("there is no teacher: give OFA a DistillConfig.")
        return self.distiller.of_layers()

    @property
    def netAs_param(self) -> list[nn.Parameter]:  # PaddleSlim's name
        """The mapping layers' parameters. They are among ``ofa.parameters()``, but not among the model's."""
        return [] if self.distiller is None else list(self.distiller.mappings.parameters())

    @property
    def depth_choice(self) -> ValueChoice | None:
        """Of the depth that the model's own forward looks after (``RunConfig.elastic_depth``)."""
        return self._depth

    def forget(self) -> None:
        """Let go of what was kept of the last batch."""
        self._soft = None
        if self.distiller is not None:
            self.distiller.forget()

    def scaled(self, loss: torch.Tensor, group: int) -> torch.Tensor:
        """A sub-network's loss as its part in a step of ``group`` of them, whose gradients are summed or averaged."""
        return loss / group if self.run_config.reduction == "mean" else loss

    def _next_step(self) -> None:
        self.curriculum.step, self._calls = self.step + 1, 0

    export = exporting.export
    search = searching.search

    def get_extra_state(self) -> dict[str, Any]:
        """Where the training is; part of the state dict."""
        return {**self.curriculum.state(), "calls": self._calls}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`get_extra_state` returned."""
        self.curriculum.set_state(state)
        self._calls = state["calls"]


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        parts = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise ElasticError(
            f"the batch is a {type(batch).__name__}{parts}, wanted (inputs, targets); several inputs or targets as a "
            "tuple in its place, such as ((tokens, mask), targets)."
        )
    return batch[0], batch[1]
