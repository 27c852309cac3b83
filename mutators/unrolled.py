"""Gradients of architecture parameters: at the weights, and after one more step of the weights.

DARTS (Liu et al., ICLR 2019, arXiv:1806.09055), equations 6 to 8. Differs: weights and buffers, such as batch norm's
statistics, are afterwards what they were, bit for bit, where the authors' code counts validation batches into them;
parameter groups may have learning rates of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Loss = Callable[[], Tensor]
"""Computes the loss of the current weights and architecture on a batch: a scalar with its graph."""


def first_order_gradient(valid_loss: Loss, arch: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the validation loss at the current weights, and its gradient, one tensor a parameter of ``arch``."""
    loss = valid_loss()
    return loss.detach(), _gradients(loss, arch)


def second_order_gradient(
    train_loss: Loss, valid_loss: Loss, optimizer: torch.optim.SGD, arch: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return what :func:`first_order_gradient` does, for the weights after a step of ``optimizer`` on ``train_loss``.

    The dependence of that step on ``arch`` is a Hessian-vector product, measured by a central finite difference, for
    which ``train_loss`` has to see the same batch each of three times. The optimizer is not stepped.

    Raises:
        ValueError: the optimizer does anything but a plain step with momentum and weight decay.
    """
    _check_optimizer(optimizer)
    trained = [(w, group) for group in optimizer.param_groups for w in group["params"] if w.requires_grad]
    weights = [weight for weight, _ in trained]
    with _restored(weights):
        gradients = torch.autograd.grad(train_loss(), weights, allow_unused=True)
        for (weight, group), gradient in zip(trained, gradients, strict=True):
            if gradient is not None:
                _step(weight, gradient, group, optimizer.state.get(weight, {}).get("momentum_buffer"))
        loss = valid_loss()
        direct = torch.autograd.grad(loss, [*arch, *weights], allow_unused=True)
    moved = [
        torch.zeros_like(w) if v is None or g is None else float(group["lr"]) * v
        for (w, group), v, g in zip(trained, direct[len(arch) :], gradients, strict=True)
    ]
    product = _hessian_vector_product(train_loss, weights, moved, arch)
    return loss.detach(), [
        (torch.zeros_like(a) if d is None else d) - p for a, d, p in zip(arch, direct, product, strict=False)
    ]


def _check_optimizer(optimizer: object) -> None:
    """Raise a ValueError unless it is an SGD whose step :func:`second_order_gradient` can unroll."""
    if not isinstance(optimizer, torch.optim.SGD):
        raise ValueError(
            f"the optimizer is a {type(optimizer).__name__}, wanted torch.optim.SGD: its step is unrolled."
        )
    on = [name for name in ("nesterov", "dampening", "maximize") if any(g[name] for g in optimizer.param_groups)]
    if on:
        raise ValueError(f"the optimizer has {', '.join(on)}, wanted SGD with momentum and weight_decay only.")


@contextmanager
def unchanged_buffers(model: nn.Module) -> Iterator[None]:
    """Put buffers such as batch norm's statistics back at the end, also after an exception."""
    with _restored(list(model.buffers())):
        yield


@contextmanager
def _restored(tensors: Sequence[Tensor]) -> Iterator[None]:
    saved = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, saved, strict=True):
                tensor.copy_(value)


@torch.no_grad()
def _step(weight: Tensor, gradient: Tensor, group: dict[str, Any], momentum: Tensor | None) -> None:
    """Move a weight as ``SGD.step()`` would; the optimizer's state stays as it is."""
    direction = gradient + group["weight_decay"] * weight
    if momentum is not None:
        direction = direction + group["momentum"] * momentum
    weight.sub_(float(group["lr"]) * direction)


def _hessian_vector_product(
    train_loss: Loss, weights: Sequence[Tensor], vector: Sequence[Tensor], arch: Sequence[Tensor]
) -> list[Tensor]:
    """Return d/d arch (d train_loss / d weights . vector), by the gradients at two points along the vector."""
    length = torch.sqrt(torch.stack([v.square().sum() for v in vector]).sum()) if vector else torch.zeros(())
    if length == 0:
        return [torch.zeros_like(a) for a in arch]
    step = 0.01 / float(length)  # as in the paper
    ahead = _gradients_at(train_loss, weights, vector, step, arch)
    behind = _gradients_at(train_loss, weights, vector, -step, arch)
    return [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]


def _gradients_at(
    loss: Loss, weights: Sequence[Tensor], vector: Sequence[Tensor], step: float, arch: Sequence[Tensor]
) -> list[Tensor]:
    with _restored(weights):
        with torch.no_grad():
            for weight, v in zip(weights, vector, strict=True):
                weight.add_(v, alpha=step)
        return _gradients(loss(), arch)


def _gradients(loss: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(tensors), allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]
