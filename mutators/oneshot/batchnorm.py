"""Batch norm statistics of one path: recomputed as a true average, or taken from the batch, and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import nn

from mutators.choices.modes import kept_modes as kept_modes  # also imported from here, for now
from mutators.elastic.layers.batchnorm import ElasticBatchNorm
from mutators.oneshot.data import batches as walk_batches
from mutators.oneshot.data import to_device
from mutators.oneshot.errors import OneShotError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
Forward = Callable[[nn.Module, Any], Any]


class _Pool:
    """Mean and variance per channel over several batches, in float64 (Chan et al., 1983: pairwise, no cancellation)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: torch.Tensor | float = 0.0
        self.squares: torch.Tensor | float = 0.0

    def add(self, x: torch.Tensor) -> None:
        """x: (N, C, ...)."""
        count = x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x.detach().double(), dim=[0, *range(2, x.dim())], correction=0)
        delta, total = mean - self.mean, self.count + count
        self.mean = self.mean + delta * (count / total)
        self.squares = self.squares + variance * count + delta**2 * (self.count * count / total)
        self.count = total


def recalibrate_bn(
    model: nn.Module,
    loader: Iterable[Any],
    batches: int | None = None,
    *,
    seed: int = 0,
    forward: Forward | None = None,
) -> int:
    """Reset and recompute, in place, the running statistics of the batch norms that the model's forward runs.

    Over the batches b with M_b values a channel of means m_b and second moments q_b:
    ``running_mean = sum(M_b m_b) / sum(M_b)`` and ``running_var = sum(M_b q_b) / sum(M_b) - running_mean ** 2``:
    what one pass over all images at once would give, each image counting the same; the variance is that of the
    population (divided by n, as batch norm normalises), not torch's n - 1. While it runs, batch norms normalise by
    their batch and everything else, dropout too, is in evaluation mode; so statistics behind another batch norm are
    exact for inputs normalised batch by batch, as in training.

    Nothing else changes: not training mode, nor the batch norms of what is not chosen, nor those without running
    statistics. Of ``num_batches_tracked`` the number of batches is left.

    Args:
        model: with choices applied, or a plain network, on the device of its parameters.
        loader: of training batches (inputs, ...) or inputs; see :func:`mutators.oneshot.data.batches`.
        batches: how many; None: all.
        seed: of the loader's order.
        forward: (model, batch) runs the model; None: ``model(inputs)``.

    Returns: the number of batches.

    Raises:
        OneShotError: ``batches`` is less than 1, or the loader has fewer.

    Differs: Megvii averages with momentum 0.1, which forgets all but some 19 batches; MMRazor 1.0 takes the mean of
    the batches' variances, which leaves out how their means differ.
    """
    if batches is not None and batches < 1:
        raise OneShotError(f"batches is {batches}, wanted at least 1, or None for all.")
    with normalising_by_batch(model), kept_statistics(model) as keep:
        pools, done = _observe(model, loader, batches, seed, forward or run)
        keep.clear()
        for norm, pool in pools.items():
            _write(norm, pool, done)
    return done


def _observe(
    model: nn.Module, loader: Iterable[Any], limit: int | None, seed: int, forward: Forward
) -> tuple[dict[nn.Module, _Pool], int]:
    pools: dict[nn.Module, _Pool] = {}

    def observe(norm: nn.Module, args: tuple[Any, ...]) -> None:
        pools.setdefault(norm, _Pool()).add(args[0])

    hooks = [norm.register_forward_pre_hook(observe) for norm in _norms(model)]
    device = device_of(model)
    done = 0
    try:
        with torch.no_grad():
            for batch in islice(walk_batches(loader, seed), limit):
                forward(model, to_device(batch, device))
                done += 1
    finally:
        for hook in hooks:
            hook.remove()
    if done < (limit or 1):
        raise OneShotError(f"the loader has {done} batches to calibrate with, wanted {limit or 'at least 1'}.")
    return pools, done


def _write(norm: Any, pool: _Pool, batches: int) -> None:
    with torch.no_grad():
        for name, values in (("running_mean", pool.mean), ("running_var", pool.squares / pool.count)):
            assert isinstance(values, torch.Tensor)  # a number only before the first batch
            if isinstance(norm, ElasticBatchNorm):
                norm.put(name, values, norm.spans(len(values)))
            else:
                getattr(norm, name).copy_(values)
        norm.num_batches_tracked.fill_(batches)


@contextmanager
def normalising_by_batch(model: nn.Module) -> Iterator[None]:
    """Evaluation mode but for the batch norms, which take the statistics of their batch; all modes are put back."""
    with kept_modes(model):
        model.eval()
        for norm in _norms(model):
            norm.training = True
        yield


@contextmanager
def kept_statistics(model: nn.Module) -> Iterator[dict[torch.Tensor, torch.Tensor]]:
    """Put the running statistics back that a forward is about to change, also after an exception.

    Yields: the tensors that will be put back, with what they held; clear it to keep the new.
    """
    before: dict[torch.Tensor, torch.Tensor] = {}

    def keep(norm: nn.Module, _: tuple[Any, ...]) -> None:
        for buffer in norm._buffers.values():
            if buffer is not None and buffer not in before:
                before[buffer] = buffer.clone()

    hooks = [norm.register_forward_pre_hook(keep) for norm in _norms(model)]
    try:
        yield before
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            for buffer, content in before.items():
                buffer.copy_(content)


def run(model: nn.Module, batch: Any) -> Any:
    """The model's outputs for a batch (inputs, ...) or inputs."""
    return model(batch[0] if isinstance(batch, (tuple, list)) else batch)


def device_of(model: nn.Module) -> torch.device:
    """Of the first parameter; the CPU if there is none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _norms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, NORMS) and m.running_mean is not None]
