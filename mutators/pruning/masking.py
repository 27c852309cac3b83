"""Keep pruned weights at zero, whatever the optimizer does to them.

Masks are applied in place to the model's own parameters before each forward and before each ``state_dict()``, of the
model or of any of its submodules. ``torch.nn.utils.parametrize`` would rename the keys of checkpoints, replace the
attribute by a computed tensor, and compute it anew at every access. Here the parameters are the same objects with the
same names, and only hooks know the masks:

* checkpoints: same keys, no mask among them, and the zeros in place, also right after ``optimizer.step()``.
* optimizers: hold the same parameters; momentum moves pruned weights until the next forward, which zeroes them again.
* gradients of pruned weights are set to zero as soon as they exist. A batch norm behind a filter that is nearly all
  zeros has nearly no variance to divide by. So such gradients reach thousands of times all others, and clipping by
  the norm of all gradients, or an optimizer that uses it, would leave the network as good as untrained.
* ``torch.compile``: the hooks are compiled too and break no graph (``fullgraph=True`` works); masks change in place, so
  that new ones compile nothing anew. A model that is compiled already does not see hooks that come later. So the
  result of ``torch.compile(model)`` is hooked itself, if the pruner was given it.
* AMP: parameters are zero before autocast rounds them.
* DDP and the like: hooks run in the wrapped model's forward; equal weights give equal masks in each process.
* autograd: weights are written without counting as a change, so several forwards before a backward are fine.
* copies (``copy.deepcopy``): keep the masks of that time, each its own. Averages of weights (``AveragedModel``) are
  copied before the training, when hardly anything is pruned. Give the average a pruner of its own, with the masks of
  the first: ``UnstructuredPruner(average).load_state_dict(pruner.state_dict())``.
* export (``torch.export``, ``torch.jit``, ONNX): sees the hooks as part of the model and fails: ``remove()`` first.

A mask is an integer of the weight's width, with all bits set or none, applied by a bitwise and. So a pruned weight
becomes +0 even if it was infinite or NaN, at the cost of a multiplication by a float (a quarter of one by a bool).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from mutators.choices.torch_private import get_forward_hooks, get_parameters, mark_constant
from mutators.pruning.schedule import as_plain
from search_spaces.checks import share, whole

Rule = Callable[[Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]]
"""Maps weights to masks, both by name: bool tensors, True where weights are kept."""
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Masking:
    """The masks of some parameters of a model, applied from now on.

    Args:
        model: not wrapped.
        names: of parameters, as ``model.named_parameters()`` gives them.
        compiled: results of ``torch.compile(model)`` that will be called.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], compiled: Sequence[nn.Module] = ()) -> None:
        self._places = {name: _place(model, name) for name in names}
        with torch.inference_mode(False):  # else the masks could not change outside of inference mode
            self._bits = {
                name: torch.full_like(weight, -1, dtype=integer_as_wide_as(weight), requires_grad=False)
                for name, weight in self.weights().items()
            }
        self._rule: Rule | None = None  # computes the masks when they are first needed
        self._in_forward = False  # of the whole model, which has zeroed all weights: its layers need not do so
        self.removed = False
        self._handles = list(self._hook(model))
        self._outer_handles = list(self._hook_outside(compiled))

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the parameters by name."""
        return {name: get_parameters(module)[attribute] for name, (module, attribute) in self._places.items()}  # type: ignore[misc]

    def masks(self) -> dict[str, torch.Tensor]:
        """Return copies of the masks, by name, as bool tensors."""
        self._settle()
        return {name: bits != 0 for name, bits in self._bits.items()}

    def take_from_weights(self, rule: Rule) -> None:
        """Compute masks from the weights when they are first needed, so that weights may be loaded until then.

        That is at the first forward, of the model or of a layer, or when masks are read, closed or removed. A copy
        made before that computes masks from its own weights.
        """
        self._rule = rule

    def close(self, keep: Mapping[str, torch.Tensor]) -> None:
        """Prune weights that are not kept, in addition to those that are pruned already."""
        self._settle()
        for name, mask in keep.items():
            bits = self._bits[name]
            bits.bitwise_and_(mask.to(bits.device, bits.dtype).neg_())
        self.zero()

    def replace(self, keep: Mapping[str, torch.Tensor]) -> None:
        """Prune weights that are not kept, and no others."""
        self._rule = None
        for bits in self._bits.values():
            bits.fill_(-1)
        self.close(keep)

    def zero(self, names: Sequence[str] | None = None) -> None:
        """Set pruned weights to zero, in all parameters or in those named."""
        self._settle()
        self.zero_as_known(names)

    def zero_as_known(self, names: Sequence[str] | None = None) -> None:
        """Do the same, but leave masks open that are yet to be computed: weights may still be loaded."""
        if names is None:
            self._in_forward = False  # Ctrl-C ends a forward without its hooks
        for name in self._places if names is None else names:
            module, attribute = self._places[name]
            weight: Any = get_parameters(module)[attribute]
            bits = self._bits[name]
            if bits.device != weight.device or bits.itemsize != weight.itemsize:  # the model was moved or cast
                with torch.inference_mode(False):  # as above
                    bits = self._bits[name] = bits.to(weight.device, integer_as_wide_as(weight))
            weight.data.view(bits.dtype).bitwise_and_(bits)

    def remove(self) -> None:
        """Set pruned weights to zero a last time, and remove all hooks from the model."""
        if not self.removed:
            self.zero()
        for handle in (*self._handles, *self._outer_handles):
            handle.remove()
        self._handles.clear()
        self._outer_handles.clear()
        self.removed = True

    # Masks are computed while a graph is traced, before its first run, and are no part of it.
    @mark_constant
    def _settle(self) -> None:
        """Compute the masks from the weights, if that is yet to be done."""
        if self._rule is not None:
            self.replace(self._rule(self.weights()))

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
        """Hook objects that copies of the model do not take along: parameters (their gradients), compiled models."""
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
        """Set pruned weights to zero before ``torch.save(model)`` writes tensors, which it does last."""
        self.zero_as_known()
        return {**self.__dict__, "_in_forward": False, "_outer_handles": []}


def zero_pruned(model: nn.Module) -> None:
    """Set the weights to zero that pruners of this model, or of parts of it, have pruned, as a forward does."""
    hooks = [hook for module in model.modules() for hook in get_forward_hooks(module)]
    for masking in dict.fromkeys(masking for masking in map(_masking_of, hooks) if masking is not None):
        masking.zero_as_known()


def has_other_hooks(module: nn.Module) -> bool:
    """Return whether a module has forward hooks other than those of a :class:`Masking`."""
    return any(_masking_of(hook) is None for hook in get_forward_hooks(module))


def _masking_of(hook: Any) -> Masking | None:
    owner = getattr(getattr(hook, "func", hook), "__self__", None)
    return owner if isinstance(owner, Masking) else None


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    return model.get_submodule(path), attribute


def integer_as_wide_as(tensor: torch.Tensor) -> torch.dtype:
    """Return the signed integer type with as many bytes as an element of the tensor."""
    return _INTEGERS[tensor.itemsize]


def check_state(state: Any, weights: Mapping[str, torch.Tensor]) -> list[str]:
    """Check the state of a pruner of these weights."""
    if not isinstance(state, Mapping) or not {"iteration", "masks"} <= state.keys():
        return ["it has no 'iteration' and 'masks': wanted what state_dict() of a pruner returned"]
    masks = state["masks"]
    if not isinstance(masks, Mapping):
        return [f"masks is a {type(masks).__name__}, wanted a dict of tensors"]
    problems = [f"no mask for {name!r}" for name in weights if name not in masks]
    problems += [f"a mask for {name!r}, which is not pruned" for name in masks if name not in weights]
    if state.get("pruned_at") is not None:
        problems += share("pruned_at", as_plain(state["pruned_at"]))
    for name, mask in masks.items():
        shape = weights[name].shape if name in weights else None
        if shape and not (isinstance(mask, torch.Tensor) and mask.dtype == torch.bool and mask.shape == shape):
            problems.append(f"the mask of {name!r} is no bool tensor of shape {tuple(shape)}")
    return problems + whole("iteration", state["iteration"], 0)
