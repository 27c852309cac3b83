"""Private names of torch that this package uses, each with its purpose and what would replace it.

No other file uses a private name of torch, and a test says so. So a new version of torch is checked by reading this
file. One exception: a module of ours may use its own ``self._modules``, ``self._parameters`` and ``self._buffers``, as
attributes of ``nn.Module`` are slow to look up in a forward. The three are as stable as names can be: every pickled
module consists of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, TypeVar

import torch
from torch import nn

# Runs a model on shapes alone, to count its costs. Would be replaced by the meta device, on which models fail whose
# forward makes tensors of its own.
from torch._subclasses.fake_tensor import FakeTensorMode as FakeTensorMode

# Sees all operations of a forward, to count their costs. Documented in torch's notes on extending; has no public name.
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

# Walk nested outputs of any form. torch.utils.pytree is to become their public name.
from torch.utils._pytree import tree_flatten as tree_flatten
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._pytree import tree_map as tree_map
from torch.utils._pytree import tree_map_only as tree_map_only

F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M", bound=nn.Module)

# Base classes of all batch norms, of all batch and instance norms, and of all convolutions, of any dimension. Would be
# replaced by tuples of the public classes, and classes that users derive from the bases would be missed.
BatchNorm = nn.modules.batchnorm._BatchNorm
NormBase = nn.modules.batchnorm._NormBase
ConvNd = nn.modules.conv._ConvNd

# Tells the magnitude of a normed weight, which must not be pruned. Would be replaced by the class's name.
NormedWeight = nn.utils.parametrizations._WeightNorm

DERIVED_ATTRIBUTES = frozenset(vars(nn.Module())) | {"_reversed_padding_repeated_twice"}
"""Attributes that every module has, and the one that a convolution derives from its padding: never the user's own."""

COMPILED = "_orig_mod"
"""Attribute, and so part of the keys of a state dict, under which ``torch.compile`` keeps the model inside."""

get_version: Callable[[torch.Tensor], int] = attrgetter("_version")
"""Returns how often a tensor was changed in place, to notice who wrote to it. Nothing replaces it."""


def get_storage_id(tensor: torch.Tensor) -> int:
    """Return a number that views of one tensor share. ``data_ptr`` is 0 for every tensor without memory."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except NotImplementedError:  # sparse tensors have no storage
        return id(tensor)


def get_children(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the dict of a module's children, to replace one. ``named_children`` skips None and repeated modules."""
    return module._modules


def get_parameters(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """Return the dict of a module's own parameters. ``named_parameters`` skips None and repeated ones."""
    return module._parameters


def get_buffers(module: nn.Module) -> dict[str, torch.Tensor | None]:
    """Return the dict of a module's own buffers. ``named_buffers`` skips None and repeated ones."""
    return module._buffers


def get_forward_hooks(module: nn.Module) -> tuple[Callable[..., Any], ...]:
    """Return the hooks before and after a module's forward. There is no public way to list them."""
    return (*module._forward_pre_hooks.values(), *module._forward_hooks.values())


def has_hooks(module: nn.Module) -> bool:
    """Return whether a module has hooks of its forward or backward. There is no public way to ask."""
    return bool(get_forward_hooks(module) or module._backward_hooks or module._backward_pre_hooks)


def copy_layer(layer: M) -> M:
    """Return a shallow copy of a layer with its own dicts of parameters, buffers and children.

    ``copy.copy`` shares them.
    """
    copied = copy.copy(layer)
    copied._parameters, copied._buffers = dict(layer._parameters), dict(layer._buffers)
    copied._modules = dict(layer._modules)
    return copied


def has_gradient_hooks(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has hooks of its gradient. There is no public way to ask."""
    return bool(tensor._backward_hooks or tensor._post_accumulate_grad_hooks)


def get_compiled(module: nn.Module) -> nn.Module | None:
    """Return the model inside of what ``torch.compile`` returned; None for any other module.

    ``isinstance(module, torch._dynamo.OptimizedModule)`` would import the compiler, which takes seconds.
    """
    inner = getattr(module, COMPILED, None)
    return inner if isinstance(inner, nn.Module) else None


def mark_constant(function: F) -> F:
    """Call a function while a graph is traced, and leave it out of the graph.

    ``torch.compiler.assume_constant_result`` does the same, but imports the compiler, which takes seconds.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def copy_all(targets: Iterable[torch.Tensor], sources: Iterable[torch.Tensor]) -> None:
    """Copy many tensors in one call. A loop over ``copy_`` is the same, and slower."""
    torch._foreach_copy_(list(targets), list(sources))
