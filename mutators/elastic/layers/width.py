"""Widths, which are numbers of channels that choices decide, and the layout of a tensor's channels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch

from mutators.choices.errors import ElasticError
from mutators.choices.value_choice import ValueChoice
from mutators.choices.visitor import Plan
from mutators.elastic.layers.parts import part_of

Span = tuple[int, int]
"""(start, length) along a dimension."""


class Width:
    """A number of channels, of which the first are in use. Layers that are tied share the same object.

    Args:
        full: the largest number.
        choices: decide the size; none: the width is fixed.
        sizes: the number of channels for each combination of the choices' indices.

    Raises:
        ElasticError: a combination has no size, a size is not in 1 to ``full``, or none is ``full``.
    """

    def __init__(
        self, full: int, choices: Sequence[ValueChoice] = (), sizes: Mapping[tuple[int, ...], int] | None = None
    ) -> None:
        self.full, self.choices = full, tuple(choices)
        self.sizes: dict[tuple[int, ...], int] = {(): full} if sizes is None else dict(sizes)
        combinations = itertools.product(*(range(len(choice.values)) for choice in self.choices))
        problems = [f"no size for {at}" for at in combinations if at not in self.sizes]
        problems += [f"the size for {at} is {n}" for at, n in self.sizes.items() if not 1 <= n <= full]
        if problems or max(self.sizes.values()) != full:
            raise ElasticError(f"a width of {full} wants sizes of 1 to {full} and {full} among them:", problems)
        for choice in self.choices:
            choice.feeds_layers = True

    @classmethod
    def of(cls, choice: ValueChoice, sizes: Sequence[int]) -> Width:
        """Return the width of one choice: ``sizes[i]`` channels for its option ``i``."""
        return cls(max(sizes), (choice,), {(i,): size for i, size in enumerate(sizes)})

    @property
    def offered(self) -> tuple[int, ...]:
        """All sizes, each once, ascending."""
        return tuple(sorted(set(self.sizes.values())))

    def size(self, plan: Plan | None = None) -> int:
        """Return the number of channels in use."""
        if not self.choices:
            return self.full
        if plan is None and len(self.choices) == 1:  # most widths, several times a layer and forward
            return self.sizes[(self.choices[0].index,)]
        return self.sizes[tuple([choice.index_in(plan) for choice in self.choices])]

    def __repr__(self) -> str:
        return f"Width({', '.join(map(str, self.offered))})"


class Channels:
    """The channels of a tensor: widths one after another, as a concatenation makes them.

    Args:
        segments: each a width, or a fixed number, and the number of features of each of its channels: 1 for a feature
            map, H * W after flattening (N, C, H, W), the head's width where the channels are heads.
    """

    def __init__(self, *segments: tuple[Width | int, int]) -> None:
        self.segments = tuple((Width(w) if isinstance(w, int) else w, unit) for w, unit in segments)
        self.full: int = sum(width.full * unit for width, unit in self.segments)

    @classmethod
    def of(cls, width: Width | int, unit: int = 1) -> Channels:
        """Return the layout of a single width."""
        return cls((width, unit))

    @property
    def choices(self) -> tuple[ValueChoice, ...]:
        """The choices that decide the channels, each once."""
        return tuple({id(c): c for width, _ in self.segments for c in width.choices}.values())

    def size(self, plan: Plan | None = None) -> int:
        """Return the number of features in use."""
        return sum(width.size(plan) * unit for width, unit in self.segments)

    def spans(self, plan: Plan | None = None) -> list[Span]:
        """Return the spans of features in use, neighbouring ones joined."""
        if len(self.segments) == 1:  # nearly all layouts, in every forward
            ((width, unit),) = self.segments
            return [(0, width.size(plan) * unit)]
        found: list[Span] = []
        start = 0
        for width, unit in self.segments:
            length = width.size(plan) * unit
            if found and sum(found[-1]) == start:
                found[-1] = (found[-1][0], found[-1][1] + length)
            else:
                found.append((start, length))
            start += width.full * unit
        return found

    def __repr__(self) -> str:
        return f"Channels{self.segments}"


def take(tensor: torch.Tensor, dim: int, spans: Sequence[Span]) -> torch.Tensor:
    """Return the part of a tensor, a view where it is one span: (..., sum of lengths, ...).

    Of a parameter in training it may be a leaf of its own: see :mod:`mutators.elastic.layers.parts`.
    """
    if len(spans) == 1:
        start, length = spans[0]
        if length == tensor.size(dim):
            return tensor
        if dim:
            return tensor.narrow(dim, start, length)
        part = part_of(tensor, (start, length, 0, 0))
        return tensor[start : start + length] if part is None else part  # indexing is faster than narrow
    return torch.cat([tensor.narrow(dim, start, length) for start, length in spans], dim)


def take_block(tensor: torch.Tensor, rows: Sequence[Span], columns: Sequence[Span]) -> torch.Tensor:
    """Return parts of the first two dimensions: a view where it is one span of rows and all columns, else a copy.

    A kernel needs a weight that is contiguous, and would copy a view of some columns in its forward and again in its
    backward. The copy here is one operation, whose backward fills the gradient once.
    """
    if len(columns) == 1 and columns[0][1] == tensor.size(1):
        return take(tensor, 0, rows)
    if len(rows) > 1 or len(columns) > 1:
        return take(take(tensor, 0, rows), 1, columns)
    (top, height), (left, width) = rows[0], columns[0]
    part = part_of(tensor, (top, height, left, width))
    if part is not None:
        return part
    rest = (0,) * (2 * tensor.dim() - 4)
    below, right = height + top - tensor.size(0), width + left - tensor.size(1)
    return torch.constant_pad_nd(tensor, (*rest, -left, right, -top, below))
