"""Train a supernet once for all: wrap a model, draw sub-networks of it, and run training steps.

Cai et al., ICLR 2020, arXiv:1908.09791, with the interface of PaddleSlim's ``OFA``. Differs: a configuration is checked
when it is set; ``train_step`` runs the sub-networks of a batch and accumulates their gradients, where PaddleSlim's user
calls the model as often himself; the sub-networks of a step depend on the seed and the step's number alone, and so are
the same in every process and after a kill.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.switch import Switch
from mutators.choices.value_choice import ValueChoice
from mutators.elastic.export.export import Dtypes, Shapes, export_subnet
from mutators.elastic.model import Supernet, given_depth
from mutators.elastic.notation import Config, to_choices
from mutators.elastic.search.results import SearchResult
from mutators.elastic.search.search import SearchOptions, search_subnets
from mutators.elastic.training.config import DistillConfig, RunConfig
from mutators.elastic.training.curriculum import Curriculum
from mutators.elastic.training.distill import Distiller, make_teacher
from mutators.elastic.training.losses import Batch, Loss, StepLosses
from search_spaces.checks import whole
from search_spaces.cost.limits import Constraints
from search_spaces.phases.schedule import Region, Schedule
from search_spaces.schema import Choices, Space, Tokens


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
                self.distiller = Distiller(model, make_teacher(model, distill_config), distill_config)
        self._calls = 0
        self.losses = StepLosses(self.run_config, self.distiller)
        self.set(self.curriculum.largest)

    @property
    def supernet(self) -> Supernet:
        """Return the model as its sub-networks are searched and exported."""
        return Supernet(self.model, self.space, self._depth)

    @property
    def schedule(self) -> Schedule | None:
        """Return the phases; None where everything is open from the first step."""
        return self.curriculum.schedule

    @property
    def step(self) -> int:
        """Return the number of steps trained; part of the state dict, as the epoch and the task are."""
        return self.curriculum.step

    @property
    def epoch(self) -> int:
        """Return the epoch that was set, or else that of the steps under the run's configuration; 0 without one."""
        return self.curriculum.epoch

    def set_epoch(self, epoch: int | None) -> None:
        """Set the epoch, a whole number from 0 up; None: it follows from the steps again."""
        self.curriculum.set_epoch(epoch)

    def set_task(self, task: str | Sequence[str] | None, phase: int | None = None) -> None:
        """Open tasks by hand, whatever the epoch; None: the schedule opens them again.

        Args:
            task: "kernel_size", "width", "expand_ratio", "channel", "depth", or several; others stay at their largest.
            phase: the last task offers its ``phase + 2`` largest options; None: all.

        Raises:
            PhaseError: a task is unknown or the model does not have it, or the phase is no number from 0 up.
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
        """Set the sub-network to run next, without checks."""
        self._active = tokens
        self._switch.set(tokens)

    @property
    def current_config(self) -> Choices:
        """Return the sub-network that was drawn or set last, as choices."""
        return self.space.decode(self._active)

    def choices_of(self, config: Config) -> Choices:
        """Return the choices of a configuration in any notation; it raises as :meth:`set_net_config` does."""
        return to_choices(self.model, config)

    def region(self) -> Region:
        """Return the part of the space that is open now."""
        return self.curriculum.region()

    def forward(self, *inputs: Any, **others: Any) -> Any:
        """Run a sub-network on the model's arguments. Returns: its outputs, or (outputs, teacher's outputs)."""
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
        """Run the sub-network that is set on the model's arguments. Returns: its outputs."""
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

        Returns: the mean loss of the sub-networks, (), detached. For errors see :meth:`loss_of`.
        """
        self.forget()  # a step that failed half-way may have left something
        if optimizer is not None:
            optimizer.zero_grad(set_to_none=True)
        group, losses = self.curriculum.subnets(self.step), []
        for tokens in group:
            self.set(tokens)
            loss = self.loss_of(batch, loss_fn)
            self.losses.scale(loss, len(group)).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        self._next_step()
        self.forget()
        if optimizer is not None:
            optimizer.step()
        return torch.stack(losses).mean()

    def loss_of(self, batch: Batch, loss_fn: Loss | None = None) -> torch.Tensor:
        """Return the loss of the sub-network that is set on a batch, distillation included: ().

        Raises:
            ElasticError: the batch is no pair, the teacher adds nothing, or outputs or layers cannot be compared.
        """
        return self.losses.compute(self.run, batch, loss_fn)

    def calc_distill_loss(self) -> torch.Tensor:
        """Return the layers' loss of the last forward, weighted by ``lambda_distill``: ().

        Raises:
            ElasticError: there is no teacher, or no layers to compare, or nothing ran yet.
        """
        if self.distiller is None:
            raise ElasticError("there is no teacher: give OFA a DistillConfig.")
        return self.distiller.of_layers()

    @property
    def netAs_param(self) -> list[nn.Parameter]:  # PaddleSlim's name
        """Return the mapping layers' parameters. They are among ``ofa.parameters()``, but not among the model's."""
        return [] if self.distiller is None else list(self.distiller.mappings.parameters())

    @property
    def depth_choice(self) -> ValueChoice | None:
        """Return the choice of the depth that the model's own forward takes (``RunConfig.elastic_depth``)."""
        return self._depth

    def forget(self) -> None:
        """Drop what is kept of the last batch."""
        self.losses.forget()

    def _next_step(self) -> None:
        self.curriculum.step, self._calls = self.step + 1, 0

    def export(
        self,
        config: Any = None,
        origin_model: nn.Module | None = None,
        input_shapes: Shapes | None = None,
        input_dtypes: Dtypes | None = None,
        load_weights_from_supernet: bool = True,
        calibration: Iterable[Any] | None = None,
        calibration_batches: int | None = None,
    ) -> nn.Module:
        """Return a sub-network as an ordinary network in evaluation mode, with weights of its own.

        Args:
            config: in any notation, or the result of :meth:`search`; None: the sub-network that is set now.
            origin_model, input_shapes, input_dtypes, load_weights_from_supernet, calibration, calibration_batches: see
                :func:`mutators.elastic.export.export.export_subnet`, and for what is returned and raised.
        """
        choices = self.current_config if config is None else self.choices_of(getattr(config, "choices", config))
        return export_subnet(
            self.supernet,
            choices,
            origin_model,
            input_shapes,
            input_dtypes,
            load_weights_from_supernet,
            calibration,
            calibration_batches,
        )

    def search(
        self,
        constraints: Constraints | None = None,
        data: Iterable[Any] | None = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResult:
        """Search for the best sub-network by evolution, scored with the weights that it has here.

        The supernet stays as it is, to the bit: the statistics of batch norms are recomputed for each candidate and
        put back. The same arguments give the same result, whatever else the process draws.

        Args:
            constraints: by metric, the highest cost allowed, or [lowest, highest]: ``{"latency_ms": 8}``.
            data: batches (inputs, targets) that were not trained on.
            options: such as ``trials`` and ``checkpoint``; see :class:`mutators.elastic.search.search.SearchOptions`.

        Returns: the best and all that was measured; :meth:`export` takes it.

        Raises:
            ElasticError: numbers or data do not fit, or the checkpoint is of another supernet, space or search.
            ConstraintError: no sub-network keeps the constraints; the nearest cost is named.
            CostError: a metric is unknown, or the cost table is of another model.
        """
        return search_subnets(self.supernet, constraints, data, **options)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the position of the training; part of the state dict."""
        return {**self.curriculum.state(), "calls": self._calls}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore a position that :meth:`get_extra_state` returned. Raises ElasticError if it is something else."""
        calls: Any = state.get("calls") if isinstance(state, Mapping) else None
        if problems := whole("calls", calls, 0):
            raise ElasticError(f"this is no position of an OFA's training: {problems[0]}.")
        self.curriculum.set_state(state)
        self._calls = int(calls)
