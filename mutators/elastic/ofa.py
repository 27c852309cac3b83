"""Once for all: a supernet, what of it is open, what it learns from, and the steps that train it.

Cai et al., ICLR 2020, arXiv:1908.09791, with the interface of PaddleSlim's ``OFA``. Differs: a configuration is checked
when it is set; ``train_step`` runs the sub-networks of a batch and accumulates their gradients, where PaddleSlim's user
calls the model as often himself; what is drawn is a function of the seed and the step, so that it is the same in every
process and after a kill; the phased task is the current one whatever the order.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from mutators.elastic.choice import ElasticChoice
from mutators.elastic.curriculum import Curriculum
from mutators.elastic.distill import DistillConfig, Distiller, soft_cross_entropy, teacher_of
from mutators.elastic.errors import ElasticError
from mutators.elastic.notation import Config, to_choices
from mutators.elastic.run_config import RunConfig
from mutators.oneshot.scoring import Metric, accuracy
from mutators.oneshot.switch import Switch
from search_spaces.schedule import Region, Schedule
from search_spaces.schema import Choices, Space, Tokens

if TYPE_CHECKING:
    from mutators.elastic.predictor import AccuracyPredictor
    from mutators.elastic.searching import Found
    from nas_tuners.search.constraints import Constraints
    from search_spaces.cost.example import Example
    from search_spaces.cost.table import CostTable

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
        self._depth = _depth_argument(model, self.run_config.elastic_depth)
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
        self._soft: tuple[Any, Any] | None = None
        self.set(self.curriculum.largest)

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
        """
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
        """The loss of the sub-network that is set, distillation included: ()."""
        inputs, targets = batch
        given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        taught = None if self.distiller is None else self.distiller.teach(given, {})
        outputs = self.run(*given)
        if self._soft is not None and self._soft[0] is inputs:
            loss = soft_cross_entropy(outputs, self._soft[1])  # from the largest, which came first
        else:
            loss = F.cross_entropy(outputs, targets) if loss_fn is None else loss_fn(outputs, targets)
            self._soft = (inputs, _detached(outputs)) if self.run_config.sandwich else None
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
    def depth_choice(self) -> ElasticChoice | None:
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

    def export(
        self,
        config: Any = None,
        origin_model: nn.Module | None = None,
        input_shapes: Sequence[int] | Sequence[Sequence[int]] | None = None,
        input_dtypes: Sequence[str | torch.dtype] | None = None,
        load_weights_from_supernet: bool = True,
        calibration: Iterable[Any] | None = None,
        calibration_batches: int | None = None,
    ) -> nn.Module:
        """Return a sub-network as an ordinary network in evaluation mode, with weights of its own.

        Args:
            config: in any notation, or what :meth:`search` returned; None: what is set now.
            origin_model: what the model was made of: a copy of it takes over the sub-network's layers, so that the
                result is of its class.
            input_shapes: of an input, or one for each; then the sub-network's outputs are compared with the
                supernet's, before any calibration. The batch may be left out.
            input_dtypes: of these inputs, such as "int64"; None: float32.
            load_weights_from_supernet: False: the weights are ``origin_model``'s own, cut to size.
            calibration: training batches to recompute the statistics of batch norms on, which are those of a mixture
                of sub-networks otherwise. None: as they are in the supernet.
            calibration_batches: how many; None: all.

        Returns: without an elastic class or an unused channel. Names of parameters are the model's own; only where
            the model's forward takes a depth, the network is the child ``net`` of one that gives it.

        Raises:
            ElasticError: the configuration is not of this model, ``origin_model`` is not what it was made of, shapes
                do not fit, outputs differ by more than 1e-4 * max(1, logit), or the calibration has too few
                batches. The supernet stays as it is in any case.

        Differs: PaddleSlim wants shapes always, writes into ``origin_model``, and leaves batch norms uncut.
        """
        from mutators.elastic.exporting import export

        return export(
            self,
            config,
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
        *,
        calibration: Iterable[Any] | None = None,
        input_shape: Example | None = None,
        cost_table: CostTable | str | PathLike[str] | None = None,
        trials: int = 200,
        population: int = 50,
        seed: int = 0,
        pareto: str | None = None,
        predictor: AccuracyPredictor | int | None = None,
        top_k: int = 10,
        checkpoint: str | PathLike[str] | None = None,
        metric: Metric = accuracy,
        batches: int | None = 20,
        valid_batches: int | None = None,
        progress: bool = True,
    ) -> Found:
        """Search for the best sub-network by evolution, scored with the weights that it has here.

        The supernet stays as it is, to the bit: the statistics of batch norms are recomputed for each candidate and
        put back. The same arguments give the same result, whatever else the process draws.

        Args:
            constraints: by metric, the highest cost allowed, or [lowest, highest]: ``{"latency_ms": 8}``. Of "macs",
                "params" and "latency_ms", or what ``cost_table`` has.
            data: batches (inputs, targets) that were not trained on.
            calibration: training batches to recompute batch norms on; None: the statistics in the supernet count,
                which are a mixture.
            input_shape: of the costs, without the batch; None: that of ``data``.
            cost_table: of this model, or its path; None: one is made, by :func:`mutators.elastic.costs.cost_table`.
            trials: sub-networks to score, all different; with a predictor, to predict.
            population: drawn at random first; the best quarter of so many become parents.
            seed: of the search, and of the batches that all candidates are scored on.
            pareto: a metric: return the front of score against it, too.
            predictor: ranks candidates instead of the supernet; or of how many random sub-networks, measured by the
                supernet, to fit one, whose rank correlation is shown. The supernet measures the best in the end.
            top_k: so many of those that the predictor ranks first.
            checkpoint: a file of scores; a search that was killed finds them there and goes on as it would have. With
                it, milliseconds that were measured stand in the file of this name with ``.costs.json`` added.
            metric: (outputs, targets) to a number, higher is better, the mean over the batch.
            batches, valid_batches: of the calibration and the validation; None: all.
            progress: whether to show the best so far and the time that is left on stderr.

        Returns: the best and all that was measured; :meth:`export` takes it.

        Raises:
            ElasticError: numbers or data do not fit, or the checkpoint is of another supernet, space or seed.
            ConstraintError: no sub-network keeps the constraints; the nearest cost is named.
            CostError: a metric is unknown, or the cost table is of another model.

        Differs: PaddleSlim's is empty.
        """
        from mutators.elastic.searching import search

        return search(
            self,
            constraints,
            data,
            calibration=calibration,
            input_shape=input_shape,
            cost_table=cost_table,
            trials=trials,
            population=population,
            seed=seed,
            pareto=pareto,
            predictor=predictor,
            top_k=top_k,
            checkpoint=checkpoint,
            metric=metric,
            batches=batches,
            valid_batches=valid_batches,
            progress=progress,
        )

    def get_extra_state(self) -> dict[str, Any]:
        """Where the training is; part of the state dict."""
        return {**self.curriculum.state(), "calls": self._calls}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Put back what :meth:`get_extra_state` returned."""
        self.curriculum.set_state(state)
        self._calls = state["calls"]


def _depth_argument(model: nn.Module, depths: Sequence[float] | None) -> ElasticChoice | None:
    """The choice of a depth that the model's own forward looks after; it becomes the model's child ``depth``."""
    if depths is None:
        return None
    if "depth" not in inspect.signature(model.forward).parameters:
        raise ElasticError(
            f"elastic_depth is {list(depths)}, but {type(model).__name__}.forward takes no depth: give it one, or make "
            "stages elastic by convert(model, depth=...), which needs no elastic_depth."
        )
    if not isinstance(getattr(model, "depth", None), ElasticChoice):
        if hasattr(model, "depth"):
            raise ElasticError(f"{type(model).__name__} has an attribute 'depth', which is the choice's name.")
        model.add_module("depth", ElasticChoice(depths))
    choice: ElasticChoice = model.depth  # type: ignore[assignment]
    return choice


def _detached(outputs: Any) -> Any:
    return tuple(map(_detached, outputs)) if isinstance(outputs, (tuple, list)) else outputs.detach()
