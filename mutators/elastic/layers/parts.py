"""Parts of weights as leaves of their own, whose gradients meet in one that lasts.

Where a sub-network runs with a part of each weight, autograd makes a gradient of the whole weight for each part: new
memory, filled with zeros, and a part of it copied. That is a good part of what an elastic network's step costs more
than a plain one's. Here the part is a leaf; what backward leaves there is copied into the whole weight's gradient,
which is kept from step to step. The numbers are the same bit for bit.

The rest of that cost is Python between kernels that leave nothing of it in the processor's caches. So what a layer cut
once is remembered, and looked up when it runs the same part again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

Key = tuple[int, int, int, int]
"""(first row, rows, first column, columns): of dimensions 0 and 1; no columns, 0, stand for all of them."""

Tensors = tuple[torch.Tensor | None, ...]

_CURRENT: ContextVar[Parts | None] = ContextVar("parts", default=None)


class _Gradient:
    """A whole parameter's gradient, zero but in the part that was written last."""

    def __init__(self, parameter: torch.Tensor) -> None:
        self.whole = torch.zeros_like(parameter, requires_grad=False)
        self._key: Key = (0, 0, 0, 0)
        self._version = self.whole._version

    def zero_around(self, key: Key) -> None:
        """Make it zero but in a part that is about to be written."""
        if self.whole._version != self._version:  # somebody else has written: autograd, who clips, or another part
            self.whole.zero_()
        elif self._key != key and not _within(self._key, key):
            cut(self.whole, self._key).zero_()

    def written(self, key: Key) -> None:
        """Say that a part was written, and nothing else."""
        self._key, self._version = key, self.whole._version


class Place(NamedTuple):
    """A part of a parameter, and where its gradient goes."""

    whole: torch.Tensor
    key: Key
    gradient: _Gradient
    view: torch.Tensor  # of the gradient


class Leaf:
    """A tensor that is made of parameters, and at which backward ends. Write :meth:`fill` and :meth:`spread`.

    Attributes:
        tensor: the leaf itself, which requires its gradient.
        memory: what it lies in, where leaves take turns; None: in its parameter's, so that it need not be filled.
    """

    tensor: torch.Tensor
    memory: int | None = None

    def fill(self) -> None:
        """Give the leaf the numbers that the parameters have now, by detached tensors: it is no part of a graph."""
        raise NotImplementedError

    def spread(self, gradient: torch.Tensor) -> Sequence[tuple[Place, torch.Tensor]]:
        """Return what the gradient of the leaf is for parts of parameters."""
        raise NotImplementedError


class _Part(Leaf):
    """Shares its parameter's memory, or, where columns are cut, is a copy."""

    def __init__(self, parts: Parts, whole: torch.Tensor, key: Key) -> None:
        self._source = self._numbers = cut(whole.detach(), key)
        self._place = parts.place(whole, key)
        if key[3]:
            self.memory, self._numbers = parts.memory(whole, self._source.shape)
        self.tensor = self._numbers.detach().requires_grad_()

    def fill(self) -> None:
        self._numbers.copy_(self._source)

    def spread(self, gradient: torch.Tensor) -> Sequence[tuple[Place, torch.Tensor]]:
        return ((self._place, gradient),)


class _Recalled(NamedTuple):
    """What a layer cut: the tensors, the leaves among them, and which of those have to be filled."""

    tensors: Tensors
    leaves: list[Leaf]
    fill: list[Leaf]


class Parts:
    """Hands out parts of parameters, inside of ``with``, and gathers their gradients.

    What has hooks is not handed out, nor what DistributedDataParallel looks after: they would see nothing. Neither is a
    tensor of a type of its own. Parameters may move and be frozen, get hooks and lose them, but not while in ``with``.

    Args:
        model: of whose parameters parts may be handed out, and of its buffers, as views; None: of nothing.
    """

    def __init__(self, model: nn.Module | None) -> None:
        wrapped = model is not None and any(isinstance(m, DistributedDataParallel) for m in model.modules())
        tensors = [] if model is None or wrapped else [*model.parameters(), *model.buffers()]
        self._tensors = [tensor for tensor in tensors if type(tensor) in (nn.Parameter, torch.Tensor)]
        self._parameters = [tensor for tensor in self._tensors if isinstance(tensor, nn.Parameter)]
        self._addresses: list[int] = []
        self._free: set[int] = set()  # parameters of which leaves may be made
        self._open: list[Leaf] = []
        self._filled: dict[int, Leaf] = {}  # what memory for leaves holds now
        self._token: Token[Parts | None] | None = None
        self._forget()

    def __enter__(self) -> None:
        addresses = list(map(torch.Tensor.data_ptr, self._tensors))
        free = {
            id(parameter)
            for parameter in self._parameters
            if parameter.requires_grad and not (parameter._backward_hooks or parameter._post_accumulate_grad_hooks)
        }
        if (addresses, free) != (self._addresses, self._free):
            self._addresses, self._free = addresses, free
            self._forget()
        self._open.clear()
        self._filled.clear()
        self._token = _CURRENT.set(self if self._tensors else None)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._token is not None
        _CURRENT.reset(self._token)

    def _forget(self) -> None:
        """Begin anew, as tensors are no longer what they were."""
        self._lasting = {id(tensor) for tensor in self._tensors}  # and of what is handed out
        self._leaves: dict[Hashable, Leaf] = {}
        self._views: dict[Hashable, torch.Tensor] = {}  # of what needs no gradient
        self._recalled: dict[Hashable, _Recalled] = {}
        self._gradients: dict[int, _Gradient] = {}
        self._memory: dict[int, torch.Tensor] = {}

    def part(self, whole: torch.Tensor, key: Key) -> torch.Tensor | None:
        """Return a part of a tensor as a leaf, with the numbers that the tensor has now.

        Returns: (rows, columns, ...); None where it has to be cut by autograd.
        """
        if key[3] and not whole.is_contiguous():
            return None
        if whole.requires_grad:
            return self.made(key, lambda: _Part(self, whole, key), whole)
        if id(whole) not in self._lasting:
            return None
        name = (id(whole), key)
        if name not in self._views:
            self._views[name] = cut(whole, key)
            self._lasting.add(id(self._views[name]))
        return self._views[name]

    def made(
        self, key: Hashable, make: Callable[[], Leaf], whole: torch.Tensor, *others: torch.Tensor
    ) -> torch.Tensor | None:
        """Return a leaf that is made of one or several parameters, with the numbers that they have now.

        Returns: None where it has to be made by autograd.
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
        """Fill a leaf unless it is filled; False where another one has its memory."""
        if leaf.memory is None:
            return True
        held = self._filled.get(leaf.memory)
        if held is None:
            self._filled[leaf.memory] = leaf
            leaf.fill()
        return held is None or held is leaf

    def recall(self, name: Hashable, make: Callable[[], Tensors]) -> Tensors:
        """Return what ``make`` returned under this name before, with the numbers of now.

        Only where all that it returns is whole parameters and buffers, or was handed out here: else it is called again.
        """
        known = self._recalled.get(name)
        if known is not None:
            if known.fill and not all(map(self._fill, known.fill)):
                return make()
            self._open += known.leaves
            return known.tensors
        before = len(self._open)
        tensors = make()
        if all(tensor is None or id(tensor) in self._lasting for tensor in tensors):
            leaves = self._open[before:]
            self._recalled[name] = _Recalled(tensors, leaves, [leaf for leaf in leaves if leaf.memory is not None])
        return tensors

    def collect(self) -> None:
        """Add what backward left to the gradients of the whole parameters. Call it after each backward."""
        views: list[torch.Tensor] = []
        gradients: list[torch.Tensor] = []
        written: list[Place] = []
        more: list[tuple[Place, torch.Tensor]] = []
        for leaf in self._open:
            left = leaf.tensor.grad
            if left is None:  # it did not run, or was handed out twice
                continue
            leaf.tensor.grad = None
            for place, gradient in leaf.spread(left):
                if place.whole.grad is None:
                    place.gradient.zero_around(place.key)
                    place.whole.grad = place.gradient.whole
                    views.append(place.view)
                    gradients.append(gradient)
                    written.append(place)
                else:  # another part's, or the whole parameter ran too
                    more.append((place, gradient))
        if views:
            torch._foreach_copy_(views, gradients)
        for place in written:
            place.gradient.written(place.key)
        for place, gradient in more:
            assert place.whole.grad is not None
            cut(place.whole.grad, place.key).add_(gradient)

    def place(self, whole: torch.Tensor, key: Key) -> Place:
        """Return where the gradient of a part of a parameter goes."""
        if id(whole) not in self._gradients:
            self._gradients[id(whole)] = _Gradient(whole)
        gradient = self._gradients[id(whole)]
        return Place(whole, key, gradient, cut(gradient.whole, key))

    def memory(self, whole: torch.Tensor, shape: Sequence[int]) -> tuple[int, torch.Tensor]:
        """Return memory for a leaf made of ``whole``, and its name: the same for all of them, as there may be many.

        Kernels want a weight in one piece.
        """
        name = id(whole)
        if name not in self._memory:
            self._memory[name] = torch.empty_like(whole, requires_grad=False).view(-1)
        return name, self._memory[name][: math.prod(shape)].view(tuple(shape))


def in_force() -> Parts | None:
    """Return the :class:`Parts` that are in force; None where there are none, or no gradients are wanted."""
    if torch.compiler.is_compiling():
        return None
    parts = _CURRENT.get()
    return parts if parts is not None and torch.is_grad_enabled() else None


def part_of(whole: torch.Tensor, key: Key) -> torch.Tensor | None:
    """Return a part of a tensor from the :class:`Parts` that are in force; None where there are none to give it."""
    parts = in_force()
    return None if parts is None else parts.part(whole, key)


def cut(tensor: torch.Tensor, key: Key) -> torch.Tensor:
    """The part of a tensor that a key names, as a view."""
    top, height, left, width = key
    rows = tensor[top : top + height]
    return rows[:, left : left + width] if width else rows


def _within(inner: Key, outer: Key) -> bool:
    """Whether a part of a tensor lies in another one of it; False where they are not of the same kind."""
    if not inner[1]:
        return True
    if (inner[3] == 0) != (outer[3] == 0):
        return False
    rows = outer[0] <= inner[0] and inner[0] + inner[1] <= outer[0] + outer[1]
    return rows and outer[2] <= inner[2] and inner[2] + inner[3] <= outer[2] + outer[3]
