"""Compute the loss of a sub-network in a training step: the task's or the sandwich's, and the distillation's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from mutators.choices.errors import ElasticError
from mutators.choices.torch_private import tree_flatten, tree_map
from mutators.elastic.training.config import RunConfig
from mutators.elastic.training.distill import Distiller, Stamp

Loss = Callable[[Any, Any], torch.Tensor]
"""(outputs, targets) to a scalar."""
Batch = Sequence[Any]
"""(inputs, targets)."""
WAY_OUT = "give a function of (student's outputs, teacher's): RunConfig.sandwich_fn or DistillConfig.logits_fn"


class StepLosses:
    """The losses of the sub-networks of a step on one batch. In a sandwich the first of them teaches the others."""

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
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            parts = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
            raise ElasticError(
                f"the batch is a {type(batch).__name__}{parts}, wanted (inputs, targets); several inputs or targets as "
                "a tuple in its place, such as ((tokens, mask), targets)."
            )
        inputs, targets = batch
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
            self._soft = (stamp, tree_map(_detach, outputs)) if self._config.sandwich else None
        if distiller is not None and distiller.pairs:
            loss = loss + distiller.of_layers()
        if distiller is not None and distiller.config.lambda_logits:
            config = distiller.config
            compare = config.logits_fn or partial(soft_cross_entropy, temperature=config.temperature)
            loss = loss + compare(outputs, taught) * config.lambda_logits
        return loss


def soft_cross_entropy(outputs: Any, taught: Any, temperature: float = 1.0) -> torch.Tensor:
    """Return the mean of ``-sum(softmax(taught / T) * log_softmax(outputs / T)) * T**2``, summed over several outputs.

    Args:
        outputs, taught: logits (N, C) or (N, C, H, W), or tuples, lists or dicts of them. None and anything else
            that is no floating-point tensor is ignored.
        temperature: T.

    Returns: ().

    Raises:
        ElasticError: the two are not made alike, there are no logits, or dimension 1 cannot be the classes.
    """
    (ours, form), (theirs, other) = tree_flatten(outputs), tree_flatten(taught)
    if form != other:
        raise ElasticError(f"the student's outputs are {form}, the teacher's {other}, wanted the same: {WAY_OUT}.")
    pairs = [pair for pair in zip(ours, theirs, strict=True) if all(map(_is_logits, pair))]
    if not pairs:
        raise ElasticError(f"the outputs are a {type(outputs).__name__} without a tensor of logits: {WAY_OUT}.")
    return torch.stack([_of_logits(a, b, temperature) for a, b in pairs]).sum()


def _of_logits(ours: torch.Tensor, theirs: torch.Tensor, temperature: float) -> torch.Tensor:
    if ours.shape != theirs.shape:
        raise ElasticError(
            f"the student's logits are {tuple(ours.shape)}, the teacher's {tuple(theirs.shape)}: {WAY_OUT}."
        )
    if ours.dim() < 2 or ours.shape[1] == 1:  # the softmax of one number is 1, whatever it is
        raise ElasticError(f"outputs of {tuple(ours.shape)} have no classes along dimension 1: {WAY_OUT}.")
    if ours.dim() == 3:  # a sequence's classes come last, a signal's second: a guess could train a wrong loss
        raise ElasticError(f"outputs of {tuple(ours.shape)} may have their classes second or last: {WAY_OUT}.")
    soft = torch.softmax(theirs.detach() / temperature, 1)
    return F.cross_entropy(ours / temperature, soft) * temperature**2


def _is_logits(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point()


def _detach(leaf: Any) -> Any:
    """Return an output without its graph. Raises an ElasticError if it is no tensor, number, string or None."""
    if isinstance(leaf, torch.Tensor):
        return leaf.detach()
    if leaf is None or isinstance(leaf, (bool, int, float, str)):
        return leaf
    raise ElasticError(
        f"among the outputs is a {type(leaf).__name__}, which may hold a graph: "
        "return tensors, or tuples, lists and dicts of them."
    )
