"""Milliseconds that a module takes on this machine.

Differs from a table of operators timed by themselves: the whole forward pass runs, in evaluation mode, so that caches
and memory are as they will be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mutators.costs.example import Example, inputs_for, told
from search_spaces.errors import CostError


@dataclass(frozen=True)
class Latency:
    """What was measured, and how.

    Attributes:
        median_ms: of all repeats.
        low_ms: the 10th percentile.
        high_ms: the 90th percentile: far from the median, something else was using the machine.
        repeats: how many times.
        threads: of torch, within one operation.
        device: such as "cpu" or "cuda:0".
    """

    median_ms: float
    low_ms: float
    high_ms: float
    repeats: int
    threads: int
    device: str


def latency_of(
    model: nn.Module, input_shape: Example, *, repeats: int = 50, warmup: int = 10, threads: int | None = None
) -> Latency:
    """Return how long one forward pass takes, without gradients.

    Args:
        model: runs where its parameters are; its modes are restored.
        input_shape: without the batch, such as (3, 224, 224), for batch 1; or an example.
        repeats: timed runs.
        warmup: runs before, untimed.
        threads: of torch; None leaves them as they are.

    Raises:
        CostError: a number is out of its range, or the model cannot be run.
    """
    if repeats < 1 or warmup < 0:
        raise CostError(f"repeats >= 1 and warmup >= 0 wanted, got {repeats=}, {warmup=}.")
    with threads_set(threads) as count, evaluating(model):
        run = runner(model, input_shape)
        for _ in range(warmup):
            run()
        times = np.array([run() for _ in range(repeats)])
    low, median, high = np.percentile(times, (10, 50, 90)).tolist()
    return Latency(median, low, high, repeats, count, str(device_of(model)))


def runner(model: nn.Module, input_shape: Example) -> Callable[[], float]:
    """Return a function that runs ``model`` once on random numbers and returns the milliseconds; it has run once.

    Raises:
        CostError: the model cannot be run.
    """
    device, failed = device_of(model), None
    for inputs in inputs_for(model, input_shape):
        drawn = tuple(_filled(tensor) for tensor in inputs)
        try:
            with torch.no_grad():
                model(*drawn)
        except Exception as error:  # whatever the author's forward raises
            failed = failed or CostError(f"{type(model).__name__} cannot be run on {told(inputs)}: {error}")
            continue
        return lambda: _timed(model, drawn, device)
    assert failed is not None
    raise failed


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter is; the CPU if it has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@contextmanager
def threads_set(threads: int | None) -> Iterator[int]:
    """Give torch this many threads for a while; None changes nothing. Yields: how many it has.

    Raises:
        CostError: the number is less than 1.
    """
    if threads is not None and threads < 1:
        raise CostError(f"threads is {threads}, wanted at least 1.")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """All modules in evaluation mode for a while, whatever their own ``train`` would do."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.__dict__["training"] = False
        yield
    finally:
        for module, mode in modes:
            module.__dict__["training"] = mode


def _timed(model: nn.Module, inputs: tuple[torch.Tensor, ...], device: torch.device) -> float:
    with torch.no_grad():
        wait(device)
        started = time.perf_counter()
        model(*inputs)
        wait(device)
        return (time.perf_counter() - started) * 1000


def wait(device: torch.device) -> None:
    """Until a device is done with what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _filled(tensor: torch.Tensor) -> torch.Tensor:
    """Random numbers in place of zeros, which some processors multiply faster; an example stays as it is."""
    if tensor.any():
        return tensor
    generator = torch.Generator().manual_seed(0)
    return torch.rand(tensor.shape, generator=generator).to(tensor)
