"""Cut parts of weights as leaves of their own, and gather their gradients in one tensor that lasts.

A sub-network runs with a part of each weight. For each part autograd would make a gradient of the whole weight: new
memory, filled with zeros, with the part copied into it. That is a good share of the time that a step of an elastic
network needs more than a step of a plain one. Here the part is a leaf. Its gradient is copied into the gradient of the
whole weight, which is kept from step to step. The numbers are the same bit for bit.

The rest of that time is Python between kernels. So the tensors that a layer has cut are remembered, and looked up when
it runs with the same choices again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from contextvars import ContextVar, Token
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mutators.choices.torch_private import copy_all, get_version, has_gradient_hooks

Block = tuple[int, int, int, int]
"""(first row, rows, first column, columns) of dimensions 0 and 1; 0 columns stand for all."""

Tensors = tuple[torch.Tensor | None, ...]

_ACTIVE: ContextVar[Parts | None] = ContextVar("parts", default=None)


class _Gradient:
    """The gradient of a whole parameter, zero except in the block that was written last."""

    def __init__(self, parameter: torch.Tensor) -> None:
        self.whole = torch.zeros_like(parameter, requires_grad=False)
        self._block: Block = (0, 0, 0, 0)
        self._version = get_version(self.whole)

    def zero_around(self, block: Block) -> None:
        """Set it to zero outside of a block that is about to be written."""
        if get_version(self.whole) != self._version:  # autograd, clipping, or another part wrote to it
            self.whole.zero_()
        elif self._block != block and not _contains(block, self._block):
            cut(self.whole, self._block).zero_()

    def mark_written(self, block: Block) -> None:
        self._block, self._version = block, get_version(self.whole)


class Target(NamedTuple):
    """A block of a parameter, its gradient, and the view of the gradient to write to."""

    whole: torch.Tensor
    block: Block
    gradient: _Gradient
    view: torch.Tensor


class Leaf:
    """A tensor made of parameters, at which backward ends. Subclasses write :meth:`fill` and :meth:`spread`.

    Attributes:
        tensor: the leaf itself, which requires its gradient.
        memory: name of the memory that it shares with other leaves; None: it is a view of its parameter.
    """

    tensor: torch.Tensor
    memory: int | None = None

    def fill(self) -> None:
        """Compute the leaf from the current values of the parameters, outside of autograd."""
        raise NotImplementedError

    def spread(self, gradient: torch.Tensor) -> Sequence[tuple[Target, torch.Tensor]]:
        """Return the gradients of parameters that follow from the gradient of the leaf."""
        raise NotImplementedError


class _Part(Leaf):
    """A block of a parameter: a view, or a copy if columns are cut, as kernels want a weight in one piece."""

    def __init__(self, parts: Parts, whole: torch.Tensor, block: Block) -> None:
        self._source = self._values = cut(whole.detach(), block)
        self._target = parts.target(whole, block)
        if block[3]:
            self.memory, self._values = parts.share_memory(whole, self._source.shape)
        self.tensor = self._values.detach().requires_grad_()

    def fill(self) -> None:
        self._values.copy_(self._source)

    def spread(self, gradient: torch.Tensor) -> Sequence[tuple[Target, torch.Tensor]]:
        return ((self._target, gradient),)


class _Remembered(NamedTuple):
    """The tensors that a layer has cut, the leaves among them, and the leaves that have to be filled."""

    tensors: Tensors
    leaves: list[Leaf]
    to_fill: list[Leaf]


class Parts:
    """A context that cuts parts of parameters as leaves. After backward, :meth:`gather` collects their gradients.

    Parameters with hooks, parameters of ``DistributedDataParallel`` and tensors of subclasses are cut by autograd as
    usual, as their hooks would see nothing. Between two uses of the context parameters may move, freeze, and get hooks.

    Args:
        model: whose parameters, and buffers as views, may be cut; None: none.
    """

    def __init__(self, model: nn.Module | None) -> None:
        wrapped = model is not None and any(isinstance(m, DistributedDataParallel) for m in model.modules())
        tensors = [] if model is None or wrapped else [*model.parameters(), *model.buffers()]
        self._tensors = [tensor for tensor in tensors if type(tensor) in (nn.Parameter, torch.Tensor)]
        self._trained = [tensor for tensor in self._tensors if isinstance(tensor, nn.Parameter)]
        self._addresses: list[int] = []
        self._free: set[int] = set()  # parameters of which leaves may be made
        self._open: list[Leaf] = []  # handed out since the context was entered
        self._filled: dict[int, Leaf] = {}  # by memory, the leaf whose values it holds
        self._token: Token[Parts | None] | None = None
        self._forget()

    def __enter__(self) -> None:
        addresses = list(map(torch.Tensor.data_ptr, self._tensors))
        free = {id(p) for p in self._trained if p.requires_grad and not has_gradient_hooks(p)}
        if (addresses, free) != (self._addresses, self._free):
            self._addresses, self._free = addresses, free
            self._forget()
        self._open.clear()
        self._filled.clear()
        self._token = _ACTIVE.set(self if self._tensors else None)

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        _ACTIVE.reset(self._token)

    def _forget(self) -> None:
        """Drop all leaves and views, as tensors have moved."""
        self._lasting = {id(tensor) for tensor in self._tensors}  # with those handed out: the same in later steps
        self._leaves: dict[Hashable, Leaf] = {}
        self._views: dict[Hashable, torch.Tensor] = {}
        self._remembered: dict[Hashable, _Remembered] = {}
        self._gradients: dict[int, _Gradient] = {}
        self._memory: dict[int, torch.Tensor] = {}

    def part(self, whole: torch.Tensor, block: Block) -> torch.Tensor | None:
        """Return a block of a tensor with its current values: a leaf, or a view if it needs no gradient.

        Returns: (rows, columns, ...); None if autograd has to cut it.
        """
        if block[3] and not whole.is_contiguous():
            return None
        if whole.requires_grad:
            return self.leaf(block, lambda: _Part(self, whole, block), whole)
        if id(whole) not in self._lasting:
            return None
        name = (id(whole), block)
        if name not in self._views:
            self._views[name] = cut(whole, block)
            self._lasting.add(id(self._views[name]))
        return self._views[name]

    def leaf(
        self, key: Hashable, make: Callable[[], Leaf], whole: torch.Tensor, *others: torch.Tensor
    ) -> torch.Tensor | None:
        """Return a leaf made of some parameters, with their current values; None if autograd has to make it.

        ``make`` is called once for each ``key`` of ``whole``.
        """
        if any(id(tensor) not in self._free for tensor in (whole, *others)):
            return None
        name = (id(whole), key)
        leaf = self._leaves.get(name)
        if leaf is None:
            leaf = self._leaves[name] = make()
            self._lasting.add(id(leaf.tensor))
        if not self._fill(leaf):
            return None
        self._open.append(leaf)
        return leaf.tensor

    def _fill(self, leaf: Leaf) -> bool:
        """Fill a leaf unless it is filled; return False if another leaf uses its memory in this step."""
        if leaf.memory is None:
            return True
        holder = self._filled.get(leaf.memory)
        if holder is None:
            self._filled[leaf.memory] = leaf
            leaf.fill()
        return holder is None or holder is leaf

    def recall(self, name: Hashable, make: Callable[[], Tensors]) -> Tensors:
        """Return the tensors that ``make`` returned under this name before, with current values.

        ``make`` is called again unless all its tensors were whole parameters and buffers, or were cut here.
        """
        known = self._remembered.get(name)
        if known is not None:
            if known.to_fill and not all(map(self._fill, known.to_fill)):
                return make()
            self._open += known.leaves
            return known.tensors
        before = len(self._open)
        tensors = make()
        if all(tensor is None or id(tensor) in self._lasting for tensor in tensors):
            leaves = self._open[before:]
            to_fill = [leaf for leaf in leaves if leaf.memory is not None]
            self._remembered[name] = _Remembered(tensors, leaves, to_fill)
        return tensors

    def gather(self) -> None:
        """Add the gradients of leaves to those of the whole parameters. Call it after each backward."""
        first: list[tuple[Target, torch.Tensor]] = []
        more: list[tuple[Target, torch.Tensor]] = []
        for leaf in self._open:
            reached = leaf.tensor.grad
            if reached is None:  # it did not run, or was handed out twice
                continue
            leaf.tensor.grad = None
            for target, gradient in leaf.spread(reached):
                if target.whole.grad is None:
                    target.gradient.zero_around(target.block)
                    target.whole.grad = target.gradient.whole
                    first.append((target, gradient))
                else:  # there is the gradient of another part, or of the whole parameter
                    more.append((target, gradient))
        if first:
            copy_all([target.view for target, _ in first], [gradient for _, gradient in first])
        for target, _ in first:
            target.gradient.mark_written(target.block)
        for target, gradient in more:
            assert target.whole.grad is not None
            cut(target.whole.grad, target.block).add_(gradient)

    def target(self, whole: torch.Tensor, block: Block) -> Target:
        """Return where the gradient of a block of a parameter is written."""
        if id(whole) not in self._gradients:
            self._gradients[id(whole)] = _Gradient(whole)
        gradient = self._gradients[id(whole)]
        return Target(whole, block, gradient, cut(gradient.whole, block))

    def share_memory(self, whole: torch.Tensor, shape: Sequence[int]) -> tuple[int, torch.Tensor]:
        """Return memory for a leaf, and its name: one for all leaves of ``whole``, of which there may be many."""
        name = id(whole)
        if name not in self._memory:
            self._memory[name] = torch.empty_like(whole, requires_grad=False).view(-1)
        return name, self._memory[name][: math.prod(shape)].view(tuple(shape))


def active_parts() -> Parts | None:
    """Return the :class:`Parts` whose context is active; None without one, and where no gradients are computed."""
    if torch.compiler.is_compiling():
        return None
    parts = _ACTIVE.get()
    return parts if parts is not None and torch.is_grad_enabled() else None


def part_of(whole: torch.Tensor, block: Block) -> torch.Tensor | None:
    """Return a block of a tensor from the active :class:`Parts`; None if autograd has to cut it."""
    parts = active_parts()
    return None if parts is None else parts.part(whole, block)


def cut(tensor: torch.Tensor, block: Block) -> torch.Tensor:
    """Return a block of a tensor as a view."""
    top, height, left, width = block
    rows = tensor[top : top + height]
    return rows[:, left : left + width] if width else rows


def _contains(outer: Block, inner: Block) -> bool:
    """Return whether a block contains another one; False if only one of them cuts columns."""
    if not inner[1] or (inner[3] == 0) != (outer[3] == 0):
        return not inner[1]
    rows = outer[0] <= inner[0] and inner[0] + inner[1] <= outer[0] + outer[1]
    return rows and outer[2] <= inner[2] and inner[2] + inner[3] <= outer[2] + outer[3]
