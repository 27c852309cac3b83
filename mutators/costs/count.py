"""Multiply-adds and parameters of a module.

The convention: ``macs`` are those of convolutions, transposed convolutions, linear layers and products of matrices
(attention's too), for one input. What works element by element is zero: biases, normalisation, activations, pooling,
additions, scaling; and so is looking up an embedding. Half of what ``torch.utils.flop_counter`` counts.

Differs from other counters (thop, fvcore, mmcv): what is not known is an error, never zero; nothing is computed, the
model is copied without its weights and run on shapes alone; and it is as it was afterwards.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from mutators.costs.example import Example, inputs_for, told
from mutators.costs.trace import Trace
from search_spaces.errors import CostError

Ignore = Collection[str | type[nn.Module]]
"""Modules that cost nothing although they have parameters: by path in the model, by class name, or by class."""


def count_params(model: nn.Module) -> int:
    """Return the number of parameters, each once where several modules share it. Buffers are none."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, input_shape: Example, ignore: Ignore = ()) -> int:
    """Return the multiply-adds of one forward pass.

    Args:
        model: is run on a copy without weights, in evaluation mode; it stays as it is.
        input_shape: without the batch, such as (3, 224, 224), for batch 1; or an example, run as it is.
        ignore: modules with parameters that are meant to cost nothing.

    Raises:
        CostError: a module has parameters that worked on the input, and none of it could be counted; or the model
            cannot be run. All such modules are named.
    """
    return sum(macs_by_module(model, input_shape, ignore).values())


def macs_by_module(model: nn.Module, input_shape: Example, ignore: Ignore = ()) -> dict[str, int]:
    """Return the multiply-adds that each module did itself, without its children's, by path ("": the model itself).

    Modules that did none are left out. See :func:`count_macs` for the arguments and what is raised.
    """
    try:
        return DryRun(model).macs_by_module(input_shape, ignore)
    except CannotRun:  # forward may look at numbers
        return DryRun(model, weightless=False).macs_by_module(input_shape, ignore)


class CannotRun(CostError):
    """The model cannot be run on this input; without numbers in its tensors, if the run was a weightless one."""


class DryRun:
    """A copy of a model that is run for its costs, again and again.

    Args:
        model: stays as it is.
        weightless: the copy's tensors have a shape but no numbers, so that running it takes no computation.

    Attributes:
        model: the copy, in evaluation mode.

    Raises:
        CostError: the model cannot be copied.
    """

    def __init__(self, model: nn.Module, weightless: bool = True) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True) if weightless else None
        self._original = model
        self.model = _copied(model, {id(tensor): self._like(tensor) for tensor in _tensors_of(model)})

    def macs_by_module(self, input_shape: Example, ignore: Ignore = ()) -> dict[str, int]:
        """See :func:`macs_by_module`.

        Raises:
            CannotRun: forward failed.
            CostError: a module's costs are unknown.
        """
        trace = self._run(inputs_for(self._original, input_shape))
        paths = {id(module): path for path, module in self.model.named_modules()}
        modules = dict(self.model.named_modules())
        unknown = sorted(paths[module] for module in trace.unknown())
        unknown = [path for path in unknown if not _is_ignored(path, modules[path], ignore)]
        if unknown:
            raise CostError(
                f"nothing says what these modules with parameters cost ({len(unknown)}). If it is nothing, list them "
                "in ignore=; else build them from layers that are known:",
                [f"{path or 'the model itself'}: {_class(modules[path])}" for path in unknown],
            )
        return {paths.get(module, ""): macs for module, macs in trace.macs.items()}

    def _like(self, tensor: torch.Tensor) -> torch.Tensor:
        plain = tensor.detach()
        copied = plain.clone() if self._mode is None else self._mode.from_tensor(plain)
        return nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied

    def _run(self, candidates: list[tuple[torch.Tensor, ...]]) -> Trace:
        """Trace the first inputs that the model takes."""
        failed: Exception | None = None
        for inputs in candidates:
            try:
                return _traced(self.model, tuple(self._like(tensor) for tensor in inputs), self._mode)
            except Exception as error:  # whatever the author's forward raises
                failed = failed or error
        model, reason = type(self._original).__name__, f"{type(failed).__name__}: {_short(failed)}"
        raise CannotRun(f"{model} cannot be run on {told(candidates[0])}: {reason}") from failed


def _traced(model: nn.Module, inputs: tuple[torch.Tensor, ...], mode: FakeTensorMode | None) -> Trace:
    with ExitStack() as stack:
        stack.enter_context(_unfused())
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(mode or nullcontext())
        trace = stack.enter_context(Trace(model))
        model(*inputs)
        return trace


@contextmanager
def _unfused() -> Iterator[None]:
    """No operation stands for a whole attention, transformer layer or recurrent layer: torch could not count it."""
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
    """Parameters, buffers, and tensors that are mere attributes: a copy cannot be made of those that have a graph."""
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        yield from (value for value in vars(module).values() if isinstance(value, torch.Tensor))


def _copied(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    try:
        copied = copy.deepcopy(model, memo)
    except Exception as error:  # whatever a module's own __deepcopy__ raises
        raise CostError(f"{type(model).__name__} cannot be copied: {type(error).__name__}: {_short(error)}") from error
    for module in copied.modules():
        module.__dict__["training"] = False  # not eval(): a model's own may do something else
    return copied


def _is_ignored(path: str, module: nn.Module, ignore: Ignore) -> bool:
    classes = tuple(entry for entry in ignore if isinstance(entry, type))
    return path in ignore or type(module).__name__ in ignore or isinstance(module, classes)


def _class(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _short(error: BaseException | None) -> str:
    return str(error).strip().split("\n")[0]
