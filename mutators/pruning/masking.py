"""Keeps pruned weights at zero, whatever the optimizer does to them.

Plain masks, applied in place to the model's own parameters before each forward and before each ``state_dict()``, of the
model or of any of its submodules. Not ``torch.nn.utils.parametrize``: that renames the keys of checkpoints, replaces
the attribute by a computed tensor and computes it anew at every access. Here the parameters are the same objects
with the same names, and the masks are known to the hooks only:

* checkpoints: same keys, no mask among them, and the zeros in place, also right after ``optimizer.step()``.
* optimizers: hold the same parameters; momentum moves pruned weights until the next forward, which zeroes them again.
* gradients of pruned weights are set to zero when they are there. A batch norm behind a filter of which hardly anything
  is left has nearly no variance to divide by: such gradients reach thousands of times those of all the rest, and what
  clips the norm of all, or an optimizer that looks at it, would leave the network as good as untrained.
* ``torch.compile``: the hooks are compiled too and break no graph (``fullgraph=True`` works); masks change in place, so
  that new ones compile nothing anew. Code that is compiled already knows nothing of hooks that come later: what
  ``torch.compile(model)`` returned is hooked itself, if it is what the pruner was given.
* AMP: parameters are zero before autocast rounds them.
* DDP and the like: hooks run in the wrapped model's forward; equal weights give equal masks in each process.
* autograd: weights are written without counting as a change, so several forwards before a backward are fine.
* copies (``copy.deepcopy``): keep what was pruned when they were made, each with masks of its own. Not so averages of
  weights (``AveragedModel``), whose masks are from before the training: they are as dense as what they average. Give
  the average a pruner of its own, with the masks of the first:
  ``UnstructuredPruner(average).load_state_dict(pruner.state_dict())``.
* export (``torch.export``, ``torch.jit``, ONNX): sees the hooks as part of the model and fails: ``remove()`` first.

A mask is an integer of the weight's width, all bits or none, and is applied by a bitwise and: what is not kept is +0
whatever it was, infinite or NaN too, at the cost of a multiplication by a float (a quarter of one by a bool).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from mutators.pruning.bits import integer_as_wide_as

Rule = Callable[[Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]]
"""(weights by name) -> what is kept of them, as bool tensors."""


class Masking:
    """The masks of some parameters of a model, in force from now on.

    Args:
        model: not wrapped.
        names: of parameters, as ``model.named_parameters()`` gives them.
        compiled: what ``torch.compile(model)`` returned, if that is what will be called.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], compiled: Sequence[nn.Module] = ()) -> None:
        self._places = {name: _place(model, name) for name in names}
        self._bits = {name: _all_bits(weight) for name, weight in self.weights().items()}
        self._rule: Rule | None = None  # that masks are yet to be taken by
        self._in_forward = False  # of the whole model, which has zeroed everything: its layers need not
        self.removed = False
        self._handles = list(self._hook(model))
        self._outer_handles = list(self._hook_outside(compiled))

    def weights(self) -> dict[str, torch.Tensor]:
        """The parameters as they are, by name."""
        return {name: module._parameters[attribute] for name, (module, attribute) in self._places.items()}  # type: ignore[misc]

    def masks(self) -> dict[str, torch.Tensor]:
        """What is kept, by name, as new bool tensors."""
        self._settle()
        return {name: bits != 0 for name, bits in self._bits.items()}

    def take_from_weights(self, rule: Rule) -> None:
        """Prune what ``rule`` says of the weights as they are when masks are first needed, so that they may come later.

        That is at the first forward, of the model or of a layer, or when masks are read, closed or removed. A copy
        made before that takes its own, from its own weights.
        """
        self._rule = rule

    def close(self, keep: Mapping[str, torch.Tensor]) -> None:
        """Prune what is not kept, beside what is pruned already."""
        self._settle()
        for name, mask in keep.items():
            bits = self._bits[name]
            bits.bitwise_and_(mask.to(bits.device, bits.dtype).neg_())
        self.zero()

    def replace(self, keep: Mapping[str, torch.Tensor]) -> None:
        """Prune what is not kept, and nothing else."""
        self._rule = None
        for bits in self._bits.values():
            bits.fill_(-1)
        self.close(keep)

    def zero(self, names: Sequence[str] | None = None) -> None:
        """Set what is pruned to zero, in all parameters or in those named."""
        self._settle()
        self.zero_as_known(names)

    def zero_as_known(self, names: Sequence[str] | None = None) -> None:
        """The same, but masks that are yet to be taken from the weights stay so, and open: weights may still come."""
        if names is None:
            self._in_forward = False  # Ctrl-C ends a forward without its hooks; the next step() or save is beyond it
        for name in self._places if names is None else names:
            module, attribute = self._places[name]
            weight: Any = module._parameters[attribute]
            bits = self._bits[name]
            if bits.device != weight.device or bits.itemsize != weight.itemsize:  # the model was moved or cast
                bits = self._bits[name] = _as_wide_as(weight, bits)
            weight.data.view(bits.dtype).bitwise_and_(bits)

    def remove(self) -> None:
        """Zero a last time and leave the model without hooks."""
        if not self.removed:
            self.zero()
        for handle in (*self._handles, *self._outer_handles):
            handle.remove()
        self._handles.clear()
        self._outer_handles.clear()
        self.removed = True

    def _settle(self) -> None:
        """Take the masks from the weights, if that is yet to be done."""
        if self._rule is not None:
            self.replace(self._rule(self.weights()))

    # What torch.compiler.assume_constant_result does, without the seconds that importing the compiler takes: masks are
    # taken while a graph is traced, at whose first run they are there, and are no part of it.
    _settle._dynamo_marked_constant = True  # type: ignore[attr-defined]

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

    def _hook_outside(self, compiled: Sequence[nn.Module]) -> Iterator[RemovableHandle]:
        """Hook what copies of the model do not take along: the tensors of gradients, and the compiled model."""
        for name, weight in self.weights().items():
            if weight.requires_grad:
                after = partial(self._after_backward, name)
                yield weight.register_post_accumulate_grad_hook(after)  # type: ignore[no-untyped-call]
        for wrapper in compiled:
            yield wrapper.register_forward_pre_hook(self._before_compiled, prepend=True)

    def _before_compiled(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.zero()

    def _before_model(self, names: Sequence[str], module: nn.Module, args: tuple[Any, ...]) -> None:
        self.zero(names)
        self._in_forward = True

    def _after_model(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._in_forward = False

    def _before_layer(self, names: Sequence[str], module: nn.Module, args: tuple[Any, ...]) -> None:
        if not self._in_forward:
            self.zero(names)

    def _after_backward(self, name: str, weight: torch.Tensor) -> None:
        bits, grad = self._bits[name], weight.grad
        if grad is not None and grad.layout == torch.strided and grad.itemsize == bits.itemsize:
            grad.data.view(bits.dtype).bitwise_and_(bits)

    def _before_saving(self, names: Sequence[str], *_: Any) -> None:
        self.zero_as_known(names)

    def __getstate__(self) -> dict[str, Any]:
        """Zero before ``torch.save(model)`` writes tensors, which it does last."""
        self.zero_as_known()
        return {**self.__dict__, "_in_forward": False, "_outer_handles": []}


def zero_pruned(model: nn.Module) -> None:
    """Set to zero what pruners of this model, or of parts of it, have pruned, as a forward and a save would."""
    hooks = [hook for module in model.modules() for hook in module._forward_pre_hooks.values()]
    for masking in {id(found): found for found in map(_masking_of, hooks) if found is not None}.values():
        masking.zero_as_known()


def has_other_hooks(module: nn.Module) -> bool:
    """Whether a call of the module does more than its ``forward``, by hooks that are not of a :class:`Masking`."""
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    return any(_masking_of(hook) is None for hook in hooks)


def _masking_of(hook: Any) -> Masking | None:
    owner = getattr(getattr(hook, "func", hook), "__self__", None)
    return owner if isinstance(owner, Masking) else None


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path), attribute


def _all_bits(weight: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode(False):  # or else it could not change outside of it
        return torch.full_like(weight, -1, dtype=integer_as_wide_as(weight), requires_grad=False)


def _as_wide_as(weight: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode(False):  # as above: the forward that notices a cast may be one within it
        return bits.to(weight.device, integer_as_wide_as(weight))
