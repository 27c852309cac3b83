"""Keeps pruned weights at zero, whatever the optimizer does to them.

Plain masks, applied in place to the model's own parameters before each forward and before each ``state_dict()``, of the
model or of any of its submodules. Not ``torch.nn.utils.parametrize``: that renames the keys of checkpoints, replaces
the attribute by a computed tensor and computes it anew at every access. Here the parameters are the same objects
with the same names, and the masks are known to the hooks only:

* checkpoints: same keys, no mask among them, and the zeros in place, also right after ``optimizer.step()``.
* optimizers: hold the same parameters; momentum moves pruned weights until the next forward, which zeroes them again.
* ``torch.compile``: the hooks are compiled too and break no graph (``fullgraph=True`` works); masks change in place, so
  that new ones compile nothing anew.
* AMP: parameters are zero before autocast rounds them.
* DDP and the like: hooks run in the wrapped model's forward; equal weights give equal masks in each process.
* autograd: weights are written without counting as a change, so several forwards before a backward are fine.
* copies (``copy.deepcopy``): keep what they have pruned, each with masks of its own.

A mask is an integer of the weight's width, all bits or none, and is applied by a bitwise and: what is not kept is +0
whatever it was, infinite or NaN too, at the cost of a multiplication by a float (a quarter of one by a bool).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Masking:
    """The masks of some parameters of a model, in force from now on.

    Args:
        model: not wrapped.
        names: of parameters, as ``model.named_parameters()`` gives them.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self._places = {name: _place(model, name) for name in names}
        self._bits = {name: _all_bits(weight) for name, weight in self.weights().items()}
        self._in_forward = False  # of the whole model, which has zeroed everything: its layers need not
        self._handles = list(self._hook(model))

    def weights(self) -> dict[str, torch.Tensor]:
        """The parameters as they are, by name."""
        return {name: module._parameters[attribute] for name, (module, attribute) in self._places.items()}  # type: ignore[misc]

    def masks(self) -> dict[str, torch.Tensor]:
        """What is kept, by name, as new bool tensors."""
        return {name: bits != 0 for name, bits in self._bits.items()}

    def close(self, keep: Mapping[str, torch.Tensor]) -> None:
        """Prune what is not kept, beside what is pruned already."""
        for name, mask in keep.items():
            bits = self._bits[name]
            bits.bitwise_and_(mask.to(bits.device, bits.dtype).neg_())
        self.zero()

    def replace(self, keep: Mapping[str, torch.Tensor]) -> None:
        """Prune what is not kept, and nothing else."""
        for bits in self._bits.values():
            bits.fill_(-1)
        self.close(keep)

    def zero(self, names: Sequence[str] | None = None) -> None:
        """Set what is pruned to zero, in all parameters or in those named."""
        for name in self._places if names is None else names:
            module, attribute = self._places[name]
            weight: Any = module._parameters[attribute]
            bits = self._bits[name]
            if bits.device != weight.device or bits.itemsize != weight.itemsize:  # the model was moved or cast
                bits = self._bits[name] = bits.to(weight.device, _INTEGERS[weight.itemsize])
            weight.data.view(bits.dtype).bitwise_and_(bits)

    def remove(self) -> None:
        """Zero a last time and leave the model without hooks."""
        self.zero()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, model: nn.Module) -> list[RemovableHandle]:
        """Hook each module that has a masked parameter below it: any of them may be called or saved alone."""
        names = {id(weight): name for name, weight in self.weights().items()}
        handles: list[RemovableHandle] = []
        for module in model.modules():
            below = tuple(names[id(p)] for p in module.parameters() if id(p) in names)
            if below:
                before = partial(self._before_model if module is model else self._before_layer, below)
                handles.append(module.register_forward_pre_hook(before, prepend=True))
                handles.append(module.register_state_dict_pre_hook(partial(self._before_saving, below)))  # type: ignore[no-untyped-call]
        handles.append(model.register_forward_hook(self._after_model, always_call=True))
        return handles

    def _before_model(self, names: Sequence[str], module: nn.Module, args: tuple[Any, ...]) -> None:
        self.zero(names)
        self._in_forward = True

    def _after_model(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._in_forward = False

    def _before_layer(self, names: Sequence[str], module: nn.Module, args: tuple[Any, ...]) -> None:
        if not self._in_forward:
            self.zero(names)

    def _before_saving(self, names: Sequence[str], *_: Any) -> None:
        self.zero(names)

    def __getstate__(self) -> dict[str, Any]:
        """Zero before ``torch.save(model)`` writes tensors, which it does last."""
        self.zero()
        return {**self.__dict__, "_handles": []}


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path), attribute


def _all_bits(weight: torch.Tensor) -> torch.Tensor:
    return torch.full_like(weight, -1, dtype=_INTEGERS[weight.itemsize], requires_grad=False)
