"""Tie the numbers of channels that must be the same, as a forward pass shows them.

Each dimension of a tensor whose size is a number of channels has a layout: nodes one after another, each with a unit
(see :class:`mutators.elastic.layers.Channels`). An addition ties the nodes of its operands; a function that the
analysis does not know fixes them, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch


class Node:
    """A number of channels, at most ``full``; :class:`Ties` knows the node that stands for all that are tied to it.

    Attributes:
        parts: the layout it consists of, where it is a concatenation itself.
        fixed: why it stays as it is; None: it may become elastic.
        rigid: why it cannot grow; None: it can.
        multiple: a number of which every size has to be a multiple.
    """

    def __init__(self, full: int, fixed: str | None = None) -> None:
        self.full = full
        self.fixed = "it has one channel only" if fixed is None and full == 1 else fixed
        self.rigid: str | None = None
        self.multiple = 1
        self.parent: Node | None = None
        self.parts: Layout | None = None


Layout = tuple[tuple[Node, int], ...]
Layouts = dict[int, Layout]
"""Layouts by dimension; a dimension without one has a fixed size."""


class Ties:
    """The layouts of all tensors of a forward pass."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[torch.Tensor, Layouts]] = {}

    def read(self, tensor: torch.Tensor) -> Layouts:
        """Return the layouts of a tensor."""
        return self._of[id(tensor)][1] if id(tensor) in self._of else {}

    def write(self, tensor: torch.Tensor, layouts: Layouts) -> None:
        """Set the layouts of a tensor, which is kept alive so that its id is not used again."""
        self._of[id(tensor)] = (tensor, layouts)

    def root(self, node: Node) -> Node:
        """Return the node that stands for all that are tied to this one."""
        while node.parent is not None:
            node = node.parent
        return node

    def parts(self, layout: Layout) -> Layout:
        """Return a layout in terms of roots that have no parts."""
        found: list[tuple[Node, int]] = []
        for node, unit in layout:
            root = self.root(node)
            inner = ((root, 1),) if root.parts is None else self.parts(root.parts)
            found += [(part, n * unit) for part, n in inner]
        return tuple(found)

    def fix(self, layout: Layout, why: str) -> None:
        """Fix all widths of a layout at their size; the first reason is kept."""
        for node, _ in self.parts(layout):
            node.fixed = node.fixed or why

    def stiffen(self, layout: Layout, why: str) -> None:
        """Forbid all widths of a layout to grow."""
        for node, _ in self.parts(layout):
            node.rigid = node.rigid or why

    def divide(self, layout: Layout, by: int, where: str) -> None:
        """Make the features of each part of a layout multiples of ``by``; if they are none now, fix all."""
        parts = self.parts(layout)
        if any(node.full * unit % by for node, unit in parts):
            self.fix(parts, f"{where} divides it into groups of another size")
        for node, unit in parts:
            node.multiple = math.lcm(node.multiple, by // math.gcd(by, unit))

    def pieces(self, layout: Layout, n: int, where: str) -> Layout | None:
        """Divide a layout into ``n`` equal parts that stay equal. Returns: one of them; None: there are none."""
        parts, size = self.parts(layout), size_of(layout) // n
        if len(parts) == 1 and n > 1:
            node, unit = parts[0]
            if node.full % n:
                return None
            piece = Node(node.full // n)
            self.bind(node, ((piece, 1),) * n)
            return ((piece, unit),)
        found: list[Layout] = [()]
        for part in parts:
            if size_of(found[-1]) == size:
                found.append(())
            found[-1] += (part,)
        if len(found) != n or any(size_of(piece) != size for piece in found):
            return None
        tied = [self.tie(found[0], piece, where) for piece in found[1:]]
        return self.parts(found[0]) if all(tied) else None

    def bind(self, node: Node, parts: Layout) -> None:
        """Make a root consist of parts, which take over its restrictions."""
        if node.multiple > 1:
            self.fix(parts, f"it is divided into {node.multiple} groups")
        if node.fixed:
            self.fix(parts, node.fixed)
        if node.rigid:
            self.stiffen(parts, node.rigid)
        node.parts = parts

    def tie(self, one: Layout, other: Layout, where: str) -> bool:
        """Tie two layouts; where they do not match, fix both. Returns: whether they match."""
        a, b = self.parts(one), self.parts(other)
        if [(n.full, u) for n, u in a] == [(n.full, u) for n, u in b]:
            for (left, _), (right, _) in zip(a, b, strict=True):
                self._union(left, right)
            return True
        for single, many in ((a, b), (b, a)):
            alone = len(single) == 1 and single[0][1] == 1 and size_of(single) == size_of(many)
            if alone and all(node is not single[0][0] for node, _ in many):
                self.bind(single[0][0], many)
                return True
        self.fix((*a, *b), f"{where} joins channels that are put together of different parts")
        return False

    def _union(self, one: Node, other: Node) -> None:
        one, other = self.root(one), self.root(other)
        if one is other:
            return
        one.fixed = one.fixed or other.fixed
        one.rigid = one.rigid or other.rigid
        one.multiple = math.lcm(one.multiple, other.multiple)
        other.parent = one


def size_of(layout: Layout) -> int:
    """Return the largest number of features."""
    return sum(node.full * unit for node, unit in layout)


class Dim(int):
    """A size that a forward pass read from a tensor and may pass to ``view``: an int that knows its layout.

    Attributes:
        layout: of the dimension, or the layouts that a number computed from sizes depends on.
        exact: whether it is the dimension's size itself.
    """

    layout: Layout
    exact: bool

    @classmethod
    def of(cls, value: int, layout: Layout, exact: bool = True) -> Dim:
        """Return a number that depends on a layout."""
        dim = cls(value)
        dim.layout, dim.exact = layout, exact
        return dim


def _derived(name: str) -> Callable[[Dim, int], int]:
    def operation(self: Dim, other: int) -> int:
        result = getattr(int, name)(self, other)
        layout = (*self.layout, *(other.layout if isinstance(other, Dim) else ()))
        return Dim.of(result, layout, exact=False) if isinstance(result, int) else result

    return operation


for _name in ("__mul__", "__rmul__", "__floordiv__"):
    setattr(Dim, _name, _derived(_name))
