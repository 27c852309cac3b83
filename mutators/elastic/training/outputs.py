"""Detach the outputs of networks from their graphs, and compare them softly, whatever tensors they are made of."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from mutators.choices.errors import ElasticError
from mutators.choices.torch_private import tree_flatten, tree_map

WAY_OUT = "give a function of (student's outputs, teacher's): RunConfig.sandwich_fn or DistillConfig.logits_fn"


def detach_outputs(outputs: Any) -> Any:
    """Return outputs without their graph: tensors in tuples, lists and dicts; None and numbers stay.

    Raises:
        ElasticError: there is something else among them, which may hold a graph.
    """
    return tree_map(_detach, outputs)


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
    if isinstance(leaf, torch.Tensor):
        return leaf.detach()
    if leaf is None or isinstance(leaf, (bool, int, float, str)):
        return leaf
    raise ElasticError(
        f"among the outputs is a {type(leaf).__name__}, which may hold a graph: "
        "return tensors, or tuples, lists and dicts of them."
    )
