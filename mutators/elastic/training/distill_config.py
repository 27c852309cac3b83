"""Check the options of distillation. After PaddleSlim's ``DistillConfig``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from torch import nn

from mutators.choices.errors import ElasticError
from search_spaces.checks import above, between

MAPPING_OPS = ("conv", "conv2d", "linear", None)

DistillFn = Callable[[Any, Any], Any]
"""(student's, teacher's) to a scalar."""


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
        if self.mapping_op not in MAPPING_OPS:
            problems.append(f"mapping_op is {self.mapping_op!r}, wanted 'conv' (or 'conv2d'), 'linear' or None")
        problems += _check_layers(self.mapping_layers)
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


def _check_layers(layers: Any) -> list[str]:
    wanted = "wanted a list of names, or of pairs of names (the supernet's, the teacher's)"
    if layers is None or (isinstance(layers, (list, tuple)) and all(map(_is_layer, layers))):
        return []
    return [f"mapping_layers is {layers!r}, {wanted}"]


def _is_layer(entry: Any) -> bool:
    pair = isinstance(entry, (list, tuple)) and len(entry) == 2 and all(isinstance(name, str) for name in entry)
    return pair or isinstance(entry, str)
