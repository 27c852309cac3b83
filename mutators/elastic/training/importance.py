"""Compute the importance of attention heads and hidden neurons from gradients (DynaBERT, Hou et al., NeurIPS 2020).

arXiv:2004.04037, as PaddleSlim computes it: a head by |dL / dm| for a mask m of ones over the heads, and a neuron by
|sum of W1 * g1 + b1 * g_b1 over its inputs| + |sum of W2 * g2 over its outputs|, summed over the batches.

Differs: every batch has its own gradients, where PaddleSlim never clears them; no mask is needed, as its gradient is
that of the weights: dL/dm_h = sum of W * g over the output projection's columns of head h; ``grad`` is not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.switch import applied, kept_modes
from mutators.choices.value_choice import ValueChoice
from mutators.choices.walk import walk
from mutators.elastic.layers.attention import ElasticMultiheadAttention
from mutators.elastic.layers.layouts import Use, per_channel, uses_of, widths_of
from mutators.elastic.layers.linear import ElasticLinear
from mutators.elastic.layers.width import Width
from mutators.elastic.mit_config import config_to_choices

Batch = TypeVar("Batch")
Loss = Callable[[nn.Module, Batch], torch.Tensor]
"""(network, batch) to a scalar."""


def gradient_importance(net: nn.Module, batches: Iterable[Batch], loss: Loss[Batch]) -> dict[Width, torch.Tensor]:
    """Return the importance of heads and neurons, for ``sort_channels(net, importance=...)``.

    Args:
        net: is run with its largest options and in evaluation mode, and is then as it was.
        batches: at least one.
        loss: of the network on a batch, as it was trained.

    Returns: by width, (full,): heads of each ``ElasticMultiheadAttention``; neurons of each width that one
    ``ElasticLinear`` writes and another one reads, and nothing else does. In definition order.

    Raises:
        ElasticError: the network has neither, or there is no batch.
    """
    pairs = _pairs(uses_of(net))
    if not pairs:
        raise ElasticError(
            f"this {type(net).__name__} has no ElasticMultiheadAttention and no pair of ElasticLinear layers whose "
            "inner width is its own: there is nothing to compute importance of."
        )
    tensors = [use.tensor for uses in pairs.values() for use in uses]
    scores = {width: torch.zeros(width.full, dtype=torch.float64) for width in pairs}
    empty = True
    with kept_modes(net), applied(net, _largest(net)):
        net.eval()
        for batch in batches:
            empty = False
            gradients = torch.autograd.grad(loss(net, batch), tensors, allow_unused=True, materialize_grads=True)
            products = {id(w): w.detach() * gradient for w, gradient in zip(tensors, gradients, strict=True)}
            for width, uses in pairs.items():
                scores[width] += _score(width, uses, products)
    if empty:
        raise ElasticError("there are no batches to compute importance from, wanted at least one.")
    return scores


def _pairs(uses: list[Use]) -> dict[Width, list[Use]]:
    """Return by width the uses whose weights and gradients give its importance."""
    found: dict[Width, list[Use]] = {}
    for width in widths_of(uses):
        mine = [use for use in uses if width in use.widths]
        readers = [use for use in mine if use.axis.reads]
        others = [use for use in mine if not use.axis.reads]
        if len({use.layer for use in readers}) != 1 or not isinstance(readers[0].layer, ElasticLinear):
            continue
        if all(isinstance(use.layer, ElasticMultiheadAttention) for use in others):
            found[width] = readers  # a head matters by its output alone, not by its projections
        elif len({use.layer for use in others}) == 1 and isinstance(others[0].layer, ElasticLinear):
            found[width] = mine
    return found


def _score(width: Width, uses: list[Use], products: dict[int, torch.Tensor]) -> torch.Tensor:
    """Return (full,) scores for a batch: |sum of weight * gradient| of the writing weights plus that of the reading."""
    sums = {reads: torch.zeros(width.full, dtype=torch.float64) for reads in (False, True)}
    for use in uses:
        product = products[id(use.tensor)].double().cpu()
        others = [dim for dim in range(product.dim()) if dim != use.axis.dim]
        vector = product.sum(others) if others else product
        sums[use.axis.reads] += per_channel(vector, use.axis.channels, width)
    return sums[False].abs() + sums[True].abs()


def _largest(net: nn.Module) -> dict[str, object]:
    """Return the choices that are applied, with the elastic ones at their largest."""
    choices = {site.key: site.mutable for site in walk(net) if isinstance(site.mutable, ValueChoice)}
    largest = {key: choice.domain.choice(choice.values.index(max(choice.values))) for key, choice in choices.items()}
    return {**config_to_choices(net), **largest}
