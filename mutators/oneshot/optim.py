"""Make the optimizer of supernet training, and update with its learning rate, clipping and half precision."""

from __future__ import annotations

import math

import torch
from torch import nn

from mutators.oneshot.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return SGD or AdamW over the trainable parameters; weight decay on those of two or more dimensions only.

    Both skip a parameter whose gradient is None: neither momentum nor decay changes it. On the CPU they are torch's
    fused ones, with the same numbers in less than half of the time, which matters for all the weights of a supernet.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = all(p.device.type == "cpu" and p.is_floating_point() for p in parameters) or None  # None: torch's default
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=fused)
    optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    if fused and config.momentum:  # which wants the buffers of all parameters or of none; zeros give the same numbers
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
    return optimizer


def lr_factor(config: TrainConfig, step: int, steps: int, steps_per_epoch: int) -> float:
    """Return the factor of the learning rate in a step.

    With W steps of warm-up: (step + 1) / W before step W. From there t goes from 0 to 1 - 1 / (steps - W), and the
    factor is (1 + cos(pi t)) / 2, or 1 - t, or 1.
    """
    warmup = min(round(config.warmup_epochs * steps_per_epoch), steps)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "constant":
        return 1.0
    t = (step - warmup) / (steps - warmup)
    return (1 + math.cos(math.pi * t)) / 2 if config.schedule == "cosine" else 1 - t


class Update:
    """One optimizer step after one or several backward passes.

    A supernet has several times the parameters of a path, and a loop over all of them takes a noticeable part of a
    short step. So there is one such loop a step, in :meth:`gather`; the rest works on parameters with a gradient.

    With ``scale`` losses are scaled, as half precision needs it. With ``narrow`` the optimizer sees only parameters
    with a gradient, which is right for optimizers that skip the rest anyway.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, clip_norm: float | None, scale: bool, narrow: bool) -> None:
        self.optimizer, self.clip_norm, self.narrow = optimizer, clip_norm, narrow
        self.scaler = torch.amp.GradScaler("cuda", enabled=scale)
        self.base_lrs = [float(group["lr"]) for group in optimizer.param_groups]
        self.groups: list[list[nn.Parameter]] = [list(group["params"]) for group in optimizer.param_groups]
        self.active = self.groups

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of ``loss``, ()."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def gather(self) -> list[torch.Tensor]:
        """Return the gradients that exist: those of the parameters that the paths of this step ran."""
        self.active = [[p for p in group if p.grad is not None] for group in self.groups]
        return [p.grad for group in self.active for p in group if p.grad is not None]

    def step(self, factor: float) -> None:
        """Clip the gathered gradients if wanted, and update at ``factor`` of the learning rates."""
        groups = self.optimizer.param_groups
        try:
            for group, lr, active in zip(groups, self.base_lrs, self.active, strict=True):
                group["lr"] = lr * factor
                group["params"] = active if self.narrow else group["params"]
            if self.clip_norm is not None:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_([p for active in self.active for p in active], self.clip_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        finally:
            for group, whole in zip(groups, self.groups, strict=True):
                group["params"] = whole

    def clear(self) -> None:
        """Set all gradients to None, not to zero: parameters that the next path does not run must not move."""
        for active in self.active:
            for parameter in active:
                parameter.grad = None
