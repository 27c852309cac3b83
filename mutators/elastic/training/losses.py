"""Compute the loss of a sub-network in a training step: the task's or the sandwich's, and the distillation's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from mutators.choices.errors import ElasticError
from mutators.elastic.training.distill import Distiller, Stamp
from mutators.elastic.training.outputs import detach_outputs, soft_cross_entropy
from mutators.elastic.training.run_config import RunConfig

Loss = Callable[[Any, Any], torch.Tensor]
"""(outputs, targets) to a scalar."""
Batch = Sequence[Any]
"""(inputs, targets)."""


class StepLosses:
    """The losses of the sub-networks of a step on one batch.

    Args:
        config: whether the first sub-network, the largest, teaches the others.
        distiller: None: no teacher.
    """

    def __init__(self, config: RunConfig, distiller: Distiller | None) -> None:
        self._config, self._distiller = config, distiller
        self._soft: tuple[Stamp, Any] | None = None  # the batch and the largest sub-network's outputs

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the last batch: copies start with another one."""
        return {**self.__dict__, "_soft": None}

    def forget(self) -> None:
        """Drop what is kept of the last batch."""
        self._soft = None
        if self._distiller is not None:
            self._distiller.forget()

    def scale(self, loss: torch.Tensor, group: int) -> torch.Tensor:
        """Return a sub-network's loss as its part of the loss of a step of ``group`` sub-networks."""
        return loss / group if self._config.reduction == "mean" else loss

    def compute(self, run: Callable[..., Any], batch: Batch, loss_fn: Loss | None) -> torch.Tensor:
        """Return the loss of the sub-network that is set: (); see :meth:`mutators.elastic.OFA.loss_of`.

        In a sandwich, the sub-network that comes first after :meth:`forget` is the teacher of the others.
        """
        inputs, targets = _split(batch)
        given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        distiller = self._distiller
        if distiller is not None and distiller.idle:
            raise ElasticError(
                "the teacher adds nothing to the loss: name mapping_layers or set lambda_logits in DistillConfig, or "
                "call the OFA itself, which returns (outputs, teacher's outputs), and compare them."
            )
        taught = None if distiller is None else distiller.teach(given, {})
        outputs, stamp = run(*given), Stamp(inputs)
        if self._soft is not None and self._soft[0] == stamp:  # from the largest, which came first
            loss = (self._config.sandwich_fn or soft_cross_entropy)(outputs, self._soft[1])
        else:
            loss = F.cross_entropy(outputs, targets) if loss_fn is None else loss_fn(outputs, targets)
            self._soft = (stamp, detach_outputs(outputs)) if self._config.sandwich else None
        if distiller is not None and distiller.pairs:
            loss = loss + distiller.of_layers()
        if distiller is not None and distiller.config.lambda_logits:
            loss = loss + distiller.of_outputs(outputs, taught)
        return loss


def _split(batch: Any) -> tuple[Any, Any]:
    """Return the inputs and the targets of a batch."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        parts = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise ElasticError(
            f"the batch is a {type(batch).__name__}{parts}, wanted (inputs, targets); several inputs or targets as a "
            "tuple in its place, such as ((tokens, mask), targets)."
        )
    return batch[0], batch[1]
