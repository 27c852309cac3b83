"""Count multiply-adds, bit operations and parameters of a module.

The convention: ``macs`` are those of convolutions, transposed convolutions, linear layers and products of matrices
(attention's too), for one input. What works element by element is zero: biases, normalisation, activations, pooling,
additions, scaling; and so is looking up an embedding. Half of what ``torch.utils.flop_counter`` counts.

``bit_operations`` are the multiply-adds of quantized layers, each times the bits of its weights times those of its
activations, as Single Path One-Shot counts them (Guo et al., ECCV 2020, arXiv:1904.00420): its 6.32G of a ResNet-18 of
two bits are 4 / 2^30 times the multiply-adds of all residual blocks, with their shortcuts. So a layer that stays in
floating point has none, whatever it costs: there is no number of bits that would do it justice.

Differs from other counters (thop, fvcore, mmcv): an unknown layer is an error, never zero; nothing is computed, since a
copy of the model without its weights runs on shapes alone; and the model is as it was afterwards.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mutators.choices.torch_private import FakeTensorMode
from mutators.costs.trace import Trace
from mutators.inputs import Example, Inputs, first_line, inputs_for, run_first
from mutators.quantization.layers import Quantized
from search_spaces.errors import CostError

Ignore = Collection[str | type[nn.Module]]
"""Modules that cost nothing although they have parameters: paths in the model, names of classes, or classes."""


def count_params(model: nn.Module) -> int:
    """Return the number of parameters, each once where several modules share it. Buffers do not count."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, input_shape: Example, ignore: Ignore = ()) -> int:
    """Return the multiply-adds of one forward pass.

    Args:
        model: is run on a copy without weights, in evaluation mode; it stays as it is.
        input_shape: without the batch, such as (3, 224, 224), for batch 1; or an example, run as it is.
        ignore: modules with parameters that are meant to cost nothing.

    Raises:
        CostError: parameters of a module took part, and nothing that they did could be counted; all such modules are
            named. Or the model cannot be run.
    """
    return sum(macs_by_module(model, input_shape, ignore).values())


def count_bit_operations(model: nn.Module, input_shape: Example, ignore: Ignore = ()) -> int:
    """Return the bit operations of one forward pass; see :func:`count_macs` for the arguments and what is raised."""
    return sum(to_bit_operations(model, macs_by_module(model, input_shape, ignore)).values())


def to_bit_operations(model: nn.Module, macs: Mapping[str, int]) -> dict[str, int]:
    """Return by path the bit operations of quantized layers with the bits in use, from multiply-adds by path."""
    layers = {path: module for path, module in model.named_modules() if isinstance(module, Quantized)}
    return {path: macs[path] * math.prod(layer.bits) for path, layer in layers.items() if path in macs}


def is_quantized(model: nn.Module) -> bool:
    """Return whether a layer of the model is quantized."""
    return any(isinstance(module, Quantized) for module in model.modules())


def macs_by_module(model: nn.Module, input_shape: Example, ignore: Ignore = ()) -> dict[str, int]:
    """Return by path the multiply-adds of each module itself, without its children's ("": the model itself).

    Modules without any are left out. See :func:`count_macs` for the arguments and what is raised.
    """
    try:
        return DryRun(model).macs_by_module(input_shape, ignore)
    except CannotRun:  # forward may look at numbers
        return DryRun(model, weightless=False).macs_by_module(input_shape, ignore)


class CannotRun(CostError):
    """The model cannot be run on this input, or not on shapes alone."""


class DryRun:
    """A copy of a model that is run to count its multiply-adds, any number of times.

    Args:
        model: stays as it is.
        weightless: give the copy's tensors shapes but no numbers, so that running it computes nothing.

    Attributes:
        model: the copy, in evaluation mode.

    Raises:
        CostError: the model cannot be copied.
    """

    def __init__(self, model: nn.Module, weightless: bool = True) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True) if weightless else None
        self._original = model
        self.model = _copy(model, {id(tensor): self._like(tensor) for tensor in _tensors_of(model)})

    def macs_by_module(self, input_shape: Example, ignore: Ignore = ()) -> dict[str, int]:
        """Return multiply-adds by path. Raises CannotRun if forward fails, and CostError if a module's are unknown."""
        trace = run_first(self._original, inputs_for(self._original, input_shape), self._trace, CannotRun)
        paths = {id(module): path for path, module in self.model.named_modules()}
        modules = dict(self.model.named_modules())
        unknown = sorted(paths[module] for module in trace.unknown())
        unknown = [path for path in unknown if not _is_ignored(path, modules[path], ignore)]
        if unknown:
            classes = {path: type(modules[path]) for path in unknown}
            raise CostError(
                f"the costs of these modules with parameters are unknown ({len(unknown)}). If they cost nothing, list "
                "them in ignore=; else build them from layers that are known:",
                [f"{path or 'the model itself'}: {c.__module__}.{c.__qualname__}" for path, c in classes.items()],
            )
        return {paths.get(module, ""): macs for module, macs in trace.macs.items()}

    def _like(self, tensor: torch.Tensor) -> torch.Tensor:
        plain = tensor.detach()
        copied = plain.clone() if self._mode is None else self._mode.from_tensor(plain)
        return nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied

    def _trace(self, inputs: Inputs) -> Trace:
        mine, trace = tuple(self._like(tensor) for tensor in inputs), Trace(self.model)
        with _unfused(), torch.no_grad(), torch.random.fork_rng(), self._mode or nullcontext(), trace:
            self.model(*mine)
        return trace


@contextmanager
def _unfused() -> Iterator[None]:
    """Split attention, transformer layers and recurrent layers into operations that torch can count."""
    mkldnn: Any = torch.backends.mkldnn  # its settings are properties that look like constants
    mha, rnn = torch.backends.mha.get_fastpath_enabled(), mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    mkldnn.enabled = False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(mha)
        mkldnn.enabled = rnn


def _tensors_of(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield parameters, buffers, and tensors that are mere attributes: deepcopy fails on those that have a graph."""
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        yield from (value for value in vars(module).values() if isinstance(value, torch.Tensor))


def _copy(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    try:
        copied = copy.deepcopy(model, memo)
    except Exception as error:  # whatever a module's own __deepcopy__ raises
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CostError(f"{type(model).__name__} cannot be copied: {reason}") from error
    for module in copied.modules():
        module.__dict__["training"] = False  # not eval(): a model's own may do something else
    return copied


def _is_ignored(path: str, module: nn.Module, ignore: Ignore) -> bool:
    classes = tuple(entry for entry in ignore if isinstance(entry, type))
    return path in ignore or type(module).__name__ in ignore or isinstance(module, classes)
