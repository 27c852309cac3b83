"""Measure the milliseconds that a module takes on this machine.

Differs from a table of operators timed by themselves: the whole forward pass runs, in evaluation mode, so that caches
and memory are in the state that they have in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from mutators.choices.switch import kept_modes
from mutators.inputs import Example, Inputs, device_of, inputs_for, run_first
from search_spaces.checks import whole
from search_spaces.errors import CostError


@dataclass(frozen=True)
class Latency:
    """The latency of a module, and how it was measured.

    Attributes:
        median_ms: of all repeats.
        low_ms: the 10th percentile.
        high_ms: the 90th percentile; where it is far from the median, other programs were using the machine.
        repeats: number of timed runs.
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
    if problems := [*whole("repeats", repeats, 1), *whole("warmup", warmup, 0)]:
        raise CostError("latency cannot be measured like this:", problems)
    with threads_set(threads) as count, evaluation_mode(model):
        run = make_runner(model, input_shape)
        for _ in range(warmup):
            run()
        times = np.array([run() for _ in range(repeats)])
    low, median, high = np.percentile(times, (10, 50, 90)).tolist()
    return Latency(median, low, high, repeats, count, str(device_of(model)))


def make_runner(model: nn.Module, input_shape: Example) -> Callable[[], float]:
    """Return a function that runs ``model`` once on random numbers and returns the milliseconds; it has run once."""
    device = device_of(model)

    @torch.no_grad()
    def run_timed(*inputs: torch.Tensor) -> float:
        wait(device)
        started = time.perf_counter()
        model(*inputs)
        wait(device)
        return (time.perf_counter() - started) * 1000

    def try_once(inputs: Inputs) -> Callable[[], float]:
        run = partial(run_timed, *map(_fill, inputs))
        run()
        return run

    return run_first(model, inputs_for(model, input_shape), try_once)


@contextmanager
def threads_set(threads: int | None) -> Iterator[int]:
    """Give torch this many threads for a while; None changes nothing. Yields: how many it has."""
    if problems := whole("threads", threads, 1, optional=True):
        raise CostError(f"{problems[0]}.")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Set all modules to evaluation mode for a while, whatever their own ``train`` would do."""
    with kept_modes(model):
        for module in model.modules():
            vars(module)["training"] = False
        yield


def wait(device: torch.device) -> None:
    """Wait until a device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _fill(tensor: torch.Tensor) -> torch.Tensor:
    """Return random numbers in place of zeros, which some processors multiply faster; an example stays as it is."""
    if tensor.any():
        return tensor
    generator = torch.Generator().manual_seed(0)
    return torch.rand(tensor.shape, generator=generator).to(tensor)
