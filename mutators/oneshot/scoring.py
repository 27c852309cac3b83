"""Score one path of a supernet, and leave the supernet as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mutators.choices.errors import OneShotError
from mutators.choices.extracting import extract
from mutators.choices.switch import applied, kept_modes
from mutators.inputs import device_of
from mutators.oneshot.batchnorm import Forward, forward_inputs, kept_statistics, normalising_by_batch, recalibrate_bn
from mutators.oneshot.data import check_loader, find_generators, to_device, walk_batches
from mutators.oneshot.rng import kept_rng
from search_spaces.checks import one_of, whole
from search_spaces.schema import Choices

Metric = Callable[[Any, Any], Any]


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the share of images whose highest logit is the target's: of (N, C) and (N,), ()."""
    _check_logits(outputs, "accuracy")
    return (outputs.argmax(dim=1) == targets).double().mean()


def log_likelihood(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean log probability of the targets, minus the cross-entropy: of (N, C) and (N,), ().

    It tells networks apart that are right on the same images.
    """
    _check_logits(outputs, "log_likelihood")
    return -F.cross_entropy(outputs, targets).double()


def _check_logits(outputs: object, metric: str) -> None:
    """Raise OneShotError if outputs are no tensor."""
    if not isinstance(outputs, torch.Tensor):
        raise OneShotError(
            f"the model's outputs are a {type(outputs).__name__}, for which {metric} is not defined: give metric=, a "
            "function of (outputs, targets)."
        )


METRICS: dict[str, Metric] = {"accuracy": accuracy, "log_likelihood": log_likelihood}
"""Those of classes, by name."""


def evaluate(
    supernet: nn.Module,
    choices: Choices,
    valid_loader: Iterable[Any],
    calibration_loader: Iterable[Any] | None = None,
    *,
    batches: int | None = 20,
    valid_batches: int | None = None,
    seed: int = 0,
    bn_training_mode: bool = False,
    metric: str | Metric = "accuracy",
    forward: Forward | None = None,
    adapt: Callable[[nn.Module], object] | None = None,
) -> dict[str, Any]:
    """Score an architecture with the supernet's weights.

    All candidates are scored alike: with the same ``seed`` they see the same batches of both loaders. These are a
    random part of the data if the loader shuffles, and its first batches if not.

    Afterwards the supernet is as it was: statistics of batch norms, training modes, applied choices, a bound mutator,
    and the random generators, global and of the loaders; also after an exception.

    Args:
        supernet: with choices, bound to a mutator or not, on the device of its parameters.
        choices: the architecture.
        valid_loader: of batches (inputs, targets) that were not trained on.
        calibration_loader: of training batches, for :func:`recalibrate_bn`; None: the supernet's own statistics,
            a mixture of those of all paths, are used. It can start again, so that all candidates see the same.
        batches: the largest number of batches to calibrate with; None: all.
        valid_batches: number of batches to validate with; None: all.
        seed: of both loaders' order.
        bn_training_mode: normalise by the validation batch, as MMRazor's option does; scores then depend on the size
            of the batches.
        metric: "accuracy"; "log_likelihood", which ranks better where paths are far from trained; or a function of
            (outputs, targets) to the mean over the batch: a number, or numbers by name.
        forward: (model, batch) to (outputs, targets), for other batches; None: of (inputs, targets).
        adapt: trains the network of the architecture, extracted with the supernet's weights, in place and alone, before
            the rest: some dozens of steps of :func:`mutators.oneshot.train_supernet` on it rank much better than what
            the supernet's weights say as they are.

    Returns: the metric over all images, as "default" or by its names; the numbers of "images" and of
        "calibration_batches" that were used; and the "seed".

    Raises:
        ChoiceError: the choices do not fit the supernet.
        OneShotError: the validation loader has too few batches or the calibration loader has none or is an iterator, or
            both a calibration and ``bn_training_mode`` are asked for, or the metric is unknown or not for such outputs.

    Differs: Megvii's tester walks on through an unshuffled validation set, so that each candidate is scored on other
    classes than the one before; MMRazor's option leaves the supernet with the statistics of what it scored.
    """
    measure = METRICS.get(metric) if isinstance(metric, str) else metric
    if measure is None:
        raise OneShotError(f"{one_of('metric', metric, METRICS)[0]}, or a function.")
    if bn_training_mode and calibration_loader is not None:
        raise OneShotError("bn_training_mode needs no calibration_loader: give one of them.")
    problems = whole("batches", batches, 1, optional=True) + whole("valid_batches", valid_batches, 1, optional=True)
    if problems:
        raise OneShotError("; ".join(problems) + ".")
    check_loader(calibration_loader, name="calibration_loader")
    if adapt is not None:
        with kept_rng():
            network = extract(supernet, choices)
            adapt(network)
        supernet, choices = network, {}
    with _untouched(supernet, (valid_loader, calibration_loader)), applied(supernet, choices):
        calibrated = 0
        with kept_statistics(supernet):
            if calibration_loader is not None:
                calibrated = recalibrate_bn(supernet, calibration_loader, batches, seed=seed, forward=forward)
            with normalising_by_batch(supernet) if bn_training_mode else nullcontext(supernet.eval()):
                scores, images = _score(supernet, valid_loader, valid_batches, seed, measure, forward or _forward_pair)
    return {**scores, "images": images, "calibration_batches": calibrated, "seed": seed}


def _score(
    model: nn.Module, loader: Iterable[Any], limit: int | None, seed: int, metric: Metric, forward: Forward
) -> tuple[dict[str, float], int]:
    """Return the means of the metrics, weighted by the size of the batches, and the number of images."""
    sums: dict[str, Any] = {}
    images = done = 0
    device = device_of(model)
    with torch.no_grad():
        for batch in islice(walk_batches(loader, seed), limit):
            outputs, targets = forward(model, to_device(batch, device))
            values = metric(outputs, targets)
            for name, value in (values if isinstance(values, Mapping) else {"default": values}).items():
                sums[name] = sums.get(name, 0.0) + value * len(targets)
            images, done = images + len(targets), done + 1
    if done < (limit or 1):
        raise OneShotError(f"the validation loader has {done} batches, wanted {limit or 'at least 1'}.")
    return {name: float(total) / images for name, total in sums.items()}, images


def _forward_pair(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise OneShotError(f"a batch is a {type(batch).__name__}, wanted (inputs, targets).")
    return forward_inputs(model, batch), batch[1]


@contextmanager
def _untouched(model: nn.Module, loaders: Iterable[Any]) -> Iterator[None]:
    """Restore training modes, the global generators, and those of the loaders."""
    generators = [generator for loader in loaders for generator in find_generators(loader)]
    states = [generator.get_state() for generator in generators]
    try:
        with kept_rng(), kept_modes(model):
            yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
