"""Check the options of progressive shrinking and distillation. After PaddleSlim's ``RunConfig``, ``DistillConfig``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.moved import moved_arguments
from search_spaces.checks import above, between, is_int, is_number, one_of, whole
from search_spaces.phases.phase import Phase

DistillFn = Callable[[Any, Any], Any]
"""(student's, teacher's) to a scalar."""


_CONVERT = "the supernet is made by convert(model, ...), give it to that"


@moved_arguments(
    ElasticError,
    skip_layers=_CONVERT,
    same_search_space=_CONVERT,
    ofa_layers=_CONVERT,
    init_learning_rate="the learning rate is the optimizer's, or that of the TrainConfig for train(ofa, ...)",
)
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
    phase; no learning rate, which is the optimizer's, and no layers, which ``convert`` takes.
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
    sandwich_fn: DistillFn | None = None

    def __post_init__(self) -> None:
        problems = whole("train_batch_size", self.train_batch_size, 1, optional=True)
        problems += whole("total_images", self.total_images, 1, optional=True) + whole("seed", self.seed, 0)
        problems += one_of("reduction", self.reduction, ("sum", "mean"))
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


@dataclass(frozen=True)
class DistillConfig:
    """Options of the distillation of a teacher into sub-networks.

    Attributes:
        lambda_distill: weight of the layers' loss; None: 1. Without mapping_layers it is for the caller's own loss of
            the outputs that ``ofa(x)`` returns.
        teacher_model: any network with the layers named; None: one built as the largest sub-network is, with the
            weights in ``teacher_model_path``, or else with those that the supernet has when it is wrapped.
        mapping_layers: paths of layers, the same in the teacher and the supernet, whose outputs are compared; or pairs
            (the supernet's, the teacher's). None: only outputs are compared.
        teacher_model_path: of a file with the teacher's state dict.
        distill_fn: of layers, (student's, teacher's) to a scalar; None: mean squared error.
        mapping_op: the layer that an output passes before it is compared: "conv" (or "conv2d"), a 1x1 convolution to
            the teacher's channels, "linear", or None. Needed where a width is elastic.
        lambda_logits: weight of the outputs' loss, by default the cross-entropy with the teacher's softened outputs;
            0: none. Once-for-all has 1.
        temperature: of the softened outputs; the loss is multiplied by its square.
        logits_fn: of outputs, (student's, teacher's) to a scalar, without a temperature; None: cross-entropy with
            classes along dimension 1. Wanted for a regression, and for sequences (N, L, C).

    Raises:
        ElasticError: numbers or names do not fit; all that is wrong is listed.
    """

    lambda_distill: float | None = None
    teacher_model: nn.Module | None = None
    mapping_layers: Sequence[str | tuple[str, str]] | None = None
    teacher_model_path: str | PathLike[str] | None = None
    distill_fn: DistillFn | None = None
    mapping_op: str | None = None
    lambda_logits: float = 0.0
    temperature: float = 1.0
    logits_fn: DistillFn | None = None

    def __post_init__(self) -> None:
        problems = [] if self.lambda_distill is None else between("lambda_distill", self.lambda_distill, 0)
        problems += between("lambda_logits", self.lambda_logits, 0) + above("temperature", self.temperature, 0)
        if self.mapping_op not in ("conv", "conv2d", "linear", None):
            problems.append(f"mapping_op is {self.mapping_op!r}, wanted 'conv' (or 'conv2d'), 'linear' or None")
        layers = self.mapping_layers
        if layers is not None and not (isinstance(layers, (list, tuple)) and all(map(_is_layer, layers))):
            wanted = "wanted a list of names, or of pairs of names (the supernet's, the teacher's)"
            problems.append(f"mapping_layers is {layers!r}, {wanted}")
        if self.teacher_model is not None and not isinstance(self.teacher_model, nn.Module):
            problems.append(f"teacher_model is {self.teacher_model!r}, wanted a module, or None")
        for name, function in (("distill_fn", self.distill_fn), ("logits_fn", self.logits_fn)):
            if function is not None and not callable(function):
                problems.append(f"{name} is {function!r}, wanted a function of two tensors, or None")
        if self.logits_fn is not None and not self.lambda_logits:
            problems.append("logits_fn is given without lambda_logits, which weighs it")
        if self.mapping_op is not None and not self.mapping_layers:
            problems.append("mapping_op is given without mapping_layers, on whose outputs it would work")
        if problems:
            raise ElasticError(f"DistillConfig does not fit ({len(problems)} wrong):", problems)


def _is_layer(entry: Any) -> bool:
    """Return whether an entry of ``mapping_layers`` is a name, or a pair of names."""
    pair = isinstance(entry, (list, tuple)) and len(entry) == 2 and all(isinstance(name, str) for name in entry)
    return pair or isinstance(entry, str)
