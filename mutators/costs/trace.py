"""Trace a forward pass: count the multiply-adds of each module, and find parameters that took part uncounted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.flop_counter import flop_registry

from mutators.choices.torch_private import (
    NormBase,
    TorchDispatchMode,
    get_buffers,
    get_parameters,
    get_storage_id,
    tree_leaves,
)

FREE = (NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU, nn.Embedding)
"""Layers with parameters that have no multiply-adds by the convention."""


class Trace:
    """A context around one forward pass of ``model``, under ``no_grad``.

    A parameter was counted when an operation that is counted took it, or a tensor that was computed from parameters and
    buffers alone (a sliced, masked or normalised weight), in whichever module. Tensors are known by their storage.

    Attributes:
        macs: by ``id`` of the innermost module that was running.
    """

    def __init__(self, model: nn.Module) -> None:
        self.macs: Counter[int] = Counter()
        self._model = model
        self._running: list[int] = []  # ids of the modules that are running, innermost last
        self._constant: dict[int, set[int]] = {}  # by storage: ids of the modules whose parameters went into it
        self._kept: list[torch.Tensor] = []  # so that no constant's storage is used again
        self._used: set[int] = set()
        self._counted: set[int] = set()
        self._stack = ExitStack()

    def unknown(self) -> set[int]:
        """Return the ids of the modules whose parameters took part, are not free, and were not counted."""
        free = {id(module) for module in self._model.modules() if isinstance(module, FREE)}
        return self._used - self._counted - free - {module for module, macs in self.macs.items() if macs}

    def __enter__(self) -> Trace:
        for module in self._model.modules():
            for parameter in _present(get_parameters(module)):
                self._constant.setdefault(get_storage_id(parameter), set()).add(id(module))
            for buffer in _present(get_buffers(module)):
                self._constant.setdefault(get_storage_id(buffer), set())

        def leave(*_: object) -> None:
            self._running.pop()

        enter = register_module_forward_pre_hook(lambda module, _: self._running.append(id(module)))
        for context in (enter, register_module_forward_hook(leave, always_call=True), _Watch(self._note)):
            self._stack.enter_context(context)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._kept.clear()

    def _note(self, inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor], macs: int) -> None:
        """Record one operation."""
        storages = [get_storage_id(tensor) for tensor in inputs]
        owners = set().union(*(self._constant.get(storage, set()) for storage in storages))
        constant = all(storage in self._constant for storage in storages)
        for tensor in outputs:
            if constant:
                self._constant.setdefault(get_storage_id(tensor), set()).update(owners)
                self._kept.append(tensor)
            else:  # also written in place: a constant no longer
                self._constant.pop(get_storage_id(tensor), None)
        if not constant:
            self._used |= owners
        if macs:
            self._counted |= owners
            self.macs[self._running[-1] if self._running else id(self._model)] += macs


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that hands every operation to ``note``, with its multiply-adds: half of torch's count of flops."""

    def __init__(self, note: Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor], int], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._note = note

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = _FORMULAS.get(func._overloadpacket)
        if formula is None and torch.is_inference_mode_enabled():  # where operations arrive whole
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        macs = formula(*args, **kwargs, out_val=out) // 2 if formula else 0
        self._note(_tensors((args, kwargs)), _tensors(out), macs)
        return out


_FORMULAS: Mapping[Any, Callable[..., int]] = {
    torch.ops.aten.mv: lambda matrix, *_, **__: 2 * matrix.numel(),
    torch.ops.aten.dot: lambda vector, *_, **__: 2 * vector.numel(),
    torch.ops.aten.addmv: lambda _, matrix, *__, **___: 2 * matrix.numel(),
    **flop_registry,
}
"""Floating-point operations by operator: torch's, and products with a vector, which it does not know."""


def _present(tensors: Mapping[str, torch.Tensor | None]) -> list[torch.Tensor]:
    return [tensor for tensor in tensors.values() if tensor is not None]


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
