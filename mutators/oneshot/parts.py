"""Parts of weights as leaves of their own, whose gradients meet in one that lasts.

Where a sub-network runs with a part of each weight, autograd makes a gradient of the whole weight for each part: new
memory, filled with zeros, and a part of it copied. That is a good part of what an elastic network's step costs more
than a plain one's. Here the part is a leaf; what backward leaves there is copied into the whole weight's gradient,
which is kept from step to step. The numbers are the same bit for bit.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

Key = tuple[int, int, int, int]
"""(first row, rows, first column, columns): of dimensions 0 and 1; no columns, 0, stand for all of them."""

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
        elif not _within(self._key, key):
            _cut(self.whole, self._key).zero_()

    def written(self, key: Key) -> None:
        """Say that a part was written, and nothing else."""
        self._key, self._version = key, self.whole._version


class _Part(NamedTuple):
    """A leaf that shares its tensor's memory, or, where columns are cut, is a copy of its ``source``."""

    whole: torch.Tensor
    key: Key
    address: int
    leaf: torch.Tensor
    gradient: _Gradient | None  # of a parameter; buffers have none
    view: torch.Tensor  # of the gradient
    source: torch.Tensor | None


class Parts:
    """Hands out parts of parameters, inside of ``with``, and gathers their gradients.

    What has hooks is not handed out, nor what DistributedDataParallel looks after: they would see nothing. Neither is a
    tensor of a type of its own.

    Args:
        model: of whose parameters parts may be handed out, and of its buffers, as views; None: of nothing.
    """

    def __init__(self, model: nn.Module | None) -> None:
        wrapped = model is not None and any(isinstance(m, DistributedDataParallel) for m in model.modules())
        tensors = [] if model is None or wrapped else [*model.parameters(), *model.buffers()]
        self._parts: dict[int, dict[Key, _Part]] = {
            id(tensor): {} for tensor in tensors if type(tensor) in (nn.Parameter, torch.Tensor)
        }
        self._gradients: dict[int, _Gradient] = {}
        self._copies: dict[int, torch.Tensor] = {}
        self._open: list[_Part] = []
        self._copied: dict[int, Key] = {}  # the columns of a weight that its copy holds now
        self._token: Token[Parts | None] | None = None

    def __enter__(self) -> None:
        self._token = _CURRENT.set(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._token is not None
        _CURRENT.reset(self._token)

    def part(self, whole: torch.Tensor, key: Key) -> torch.Tensor | None:
        """Return a part of a tensor as a leaf, with the numbers that the tensor has now.

        Returns: (rows, columns, ...); None where it has to be cut by autograd.
        """
        name = id(whole)
        parts = self._parts.get(name)
        if parts is None or whole._backward_hooks or whole._post_accumulate_grad_hooks:
            return None
        held = self._copied.get(name) if key[3] else None
        if held not in (None, key) or (key[3] and not whole.is_contiguous()):
            return None
        part = parts.get(key)
        if part is None or part.address != whole.data_ptr():
            part = parts[key] = self._made(whole, key)
        if part.source is not None and held is None:
            self._copied[name] = key
            with torch.no_grad():
                part.leaf.copy_(part.source)
        if part.gradient is not None:
            self._open.append(part)
        return part.leaf

    def collect(self) -> None:
        """Add what backward left to the gradients of the whole parameters. Call it after each backward."""
        views: list[torch.Tensor] = []
        gradients: list[torch.Tensor] = []
        written: list[tuple[_Gradient, Key]] = []
        more: list[tuple[torch.Tensor, Key, torch.Tensor]] = []
        for whole, key, _, leaf, lasting, view, _ in self._open:
            gradient = leaf.grad
            if gradient is None or lasting is None:  # it did not run, or was handed out twice
                continue
            leaf.grad = None
            if whole.grad is None:
                lasting.zero_around(key)
                whole.grad = lasting.whole
                views.append(view)
                gradients.append(gradient)
                written.append((lasting, key))
            else:  # another part's, or the whole parameter ran too
                more.append((whole.grad, key, gradient))
        if views:
            torch._foreach_copy_(views, gradients)
        for lasting, key in written:
            lasting.written(key)
        for sum_, key, gradient in more:
            _cut(sum_, key).add_(gradient)
        self._open.clear()
        self._copied.clear()

    def _made(self, whole: torch.Tensor, key: Key) -> _Part:
        name, address, source = id(whole), whole.data_ptr(), _cut(whole.detach(), key)
        if not whole.requires_grad:
            return _Part(whole, key, address, source, None, source, None)
        if name not in self._gradients:
            self._gradients[name] = _Gradient(whole)
        gradient = self._gradients[name]
        view = _cut(gradient.whole, key)
        if not key[3]:
            return _Part(whole, key, address, source.requires_grad_(), gradient, view, None)
        # Kernels want a weight in one piece. All its parts are copied to the same place: there may be many of them.
        if name not in self._copies:
            self._copies[name] = torch.empty_like(whole, requires_grad=False).view(-1)
        leaf = self._copies[name][: source.numel()].view(source.shape).detach().requires_grad_()
        return _Part(whole, key, address, leaf, gradient, view, source)


def part_of(whole: torch.Tensor, key: Key) -> torch.Tensor | None:
    """Return a part of a tensor from the :class:`Parts` that are in force; None where there are none to give it."""
    if torch.compiler.is_compiling():
        return None
    parts = _CURRENT.get()
    return parts.part(whole, key) if parts is not None and torch.is_grad_enabled() else None


def _cut(tensor: torch.Tensor, key: Key) -> torch.Tensor:
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
