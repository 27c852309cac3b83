"""Recompute the batch norm statistics of one path as a true average, or take them from the batch, and restore them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import nn

from mutators.choices.errors import OneShotError
from mutators.choices.switch import kept_modes
from mutators.elastic.layers.batchnorm import ElasticBatchNorm
from mutators.inputs import device_of
from mutators.oneshot.data import to_device, walk_batches
from search_spaces.checks import whole

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
Forward = Callable[[nn.Module, Any], Any]


class _Pool:
    """Mean and variance per channel over several batches, in float64 (Chan et al., 1983: pairwise, no cancellation)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: torch.Tensor | float = 0.0
        self.squares: torch.Tensor | float = 0.0

    def add(self, x: torch.Tensor) -> None:
        """Add the values of a batch, (N, C, ...)."""
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
    ``running_mean = sum(M_b m_b) / sum(M_b)`` and ``running_var = sum(M_b q_b) / sum(M_b) - running_mean ** 2``.
    One pass over all images at once would give the same. The variance is that of the population (divided by n, as
    batch norm normalises), not torch's n - 1. Meanwhile batch norms normalise by their batch, and all other modules,
    dropout too, are in evaluation mode. So statistics behind another batch norm are exact for inputs normalised batch
    by batch, as in training.

    Training modes stay as they are, and so do batch norms that do not run or have no running statistics.
    ``num_batches_tracked`` becomes the number of batches.

    Args:
        model: with choices applied, or a plain network, on the device of its parameters.
        loader: of training batches (inputs, ...) or inputs; see :func:`mutators.oneshot.data.walk_batches`.
        batches: the largest number of batches; None: all.
        seed: of the loader's order.
        forward: (model, batch) runs the model; None: ``model(inputs)``.

    Returns: the number of batches.

    Raises:
        OneShotError: ``batches`` is less than 1, or the loader has none.

    Differs: Megvii averages with momentum 0.1, which forgets all but some 19 batches; MMRazor 1.0 takes the mean of
    the batches' variances, which leaves out how their means differ.
    """
    if problems := whole("batches", batches, 1, optional=True):
        raise OneShotError(f"{problems[0]}.")
    with normalising_by_batch(model), kept_statistics(model) as before:
        pools, done = _pool_inputs(model, loader, batches, seed, forward or forward_inputs)
        before.clear()
        for norm, pool in pools.items():
            _write_statistics(norm, pool, done)
    return done


def _pool_inputs(
    model: nn.Module, loader: Iterable[Any], limit: int | None, seed: int, forward: Forward
) -> tuple[dict[nn.Module, _Pool], int]:
    """Return the pooled inputs of each batch norm that runs, and the number of batches."""
    pools: dict[nn.Module, _Pool] = {}

    def observe(norm: nn.Module, args: tuple[Any, ...]) -> None:
        pools.setdefault(norm, _Pool()).add(args[0])

    device, done = device_of(model), 0
    with torch.no_grad(), _before_norms(model, observe):
        for batch in islice(walk_batches(loader, seed), limit):
            forward(model, to_device(batch, device))
            done += 1
    if not done:
        raise OneShotError("the loader has 0 batches to calibrate with, wanted at least 1.")
    return pools, done


@torch.no_grad()
def _write_statistics(norm: Any, pool: _Pool, batches: int) -> None:
    for name, values in (("running_mean", pool.mean), ("running_var", pool.squares / pool.count)):
        assert isinstance(values, torch.Tensor)  # a number only before the first batch
        if isinstance(norm, ElasticBatchNorm):
            norm.put(name, values, norm.spans(len(values)))
        else:
            getattr(norm, name).copy_(values)
    norm.num_batches_tracked.fill_(batches)


@contextmanager
def normalising_by_batch(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode, except for batch norms, which take the statistics of their batch; restore all modes."""
    with kept_modes(model):
        model.eval()
        for norm in _norms_with_statistics(model):
            norm.training = True
        yield


@contextmanager
def kept_statistics(model: nn.Module) -> Iterator[dict[torch.Tensor, torch.Tensor]]:
    """Restore the running statistics that a forward changes, also after an exception.

    Yields: the tensors to be restored, with what they held; clear it to keep the new values.
    """
    before: dict[torch.Tensor, torch.Tensor] = {}

    def keep(norm: nn.Module, _: tuple[Any, ...]) -> None:
        for buffer in norm.buffers(recurse=False):
            if buffer not in before:
                before[buffer] = buffer.clone()

    try:
        with _before_norms(model, keep):
            yield before
    finally:
        with torch.no_grad():
            for buffer, content in before.items():
                buffer.copy_(content)


@contextmanager
def _before_norms(model: nn.Module, hook: Callable[[nn.Module, tuple[Any, ...]], None]) -> Iterator[None]:
    """Call a hook before each forward of a batch norm that has running statistics."""
    handles = [norm.register_forward_pre_hook(hook) for norm in _norms_with_statistics(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def forward_inputs(model: nn.Module, batch: Any) -> Any:
    """Return the model's outputs for a batch (inputs, ...) or inputs."""
    return model(batch[0] if isinstance(batch, (tuple, list)) else batch)


def _norms_with_statistics(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, NORMS) and m.running_mean is not None]
