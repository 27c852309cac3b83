"""Crop and transform kernels: a smaller filter is the centre of the next larger one, times a learnable matrix.

After Once-for-All (Cai et al., ICLR 2020, arXiv:1908.09791). From ``7to5_matrix`` (25, 25) and ``5to3_matrix`` (9, 9),
which begin as identities, the 3x3 filter is crop(crop(w7) @ M75.T) @ M53.T, with filters flattened row by row; all
channels share a layer's matrices. Differs: a kernel can grow, by zeros around its filter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.torch_private import get_parameters
from mutators.elastic.layers.parts import Block, Leaf, Parts, Target, active_parts, cut
from mutators.elastic.layers.width import Span, take_block
from search_spaces.checks import is_int

Matrices = Sequence[torch.Tensor]


def check_kernels(sizes: Sequence[int]) -> tuple[int, ...]:
    """Check that kernel sizes are odd and distinct, else raise an ElasticError. Returns: them, ascending."""
    odd = all(is_int(size) and size > 0 and size % 2 for size in sizes)
    if not sizes or not odd or len(set(sizes)) < len(sizes):
        wanted = "distinct odd numbers: the centre of an even kernel is no pixel"
        raise ElasticError(f"kernel sizes are {list(sizes)}, wanted {wanted}.")
    return tuple(sorted(sizes))


def matrix_name(larger: int, smaller: int) -> str:
    """Return the name of the matrix from one size to the next."""
    return f"{larger}to{smaller}_matrix"


def add_matrices(layer: nn.Module, sizes: Sequence[int]) -> None:
    """Add matrices to a layer as parameters: identities, largest first, of its weight's type and device."""
    weight = get_parameters(layer)["weight"]
    assert weight is not None
    for larger, smaller in pairwise(sorted(sizes, reverse=True)):
        eye = torch.eye(smaller**2, dtype=weight.dtype, device=weight.device)
        layer.register_parameter(matrix_name(larger, smaller), nn.Parameter(eye))


def grow_kernel(weight: torch.Tensor, size: int) -> torch.Tensor:
    """Pad (..., k, k) with zeros to (..., size, size)."""
    margin = (size - weight.shape[-1]) // 2
    return torch.constant_pad_nd(weight, (margin, margin, margin, margin))  # F.pad does the same, more slowly


def crop_kernel(weight: torch.Tensor, size: int) -> torch.Tensor:
    """Return the middle of (..., k, k): (..., size, size)."""
    start = (weight.shape[-1] - size) // 2
    return weight[..., start : start + size, start : start + size]


def transform_filters(
    layer: nn.Module, rows: Sequence[Span], columns: Sequence[Span], sizes: tuple[int, ...], size: int
) -> torch.Tensor:
    """Return some channels of a layer's weight with filters of a smaller size, through all sizes between.

    Differs: crops and matrices are first made one matrix, (size * size, k * k), which is small whatever the number of
    channels; so the filters are touched once, and their gradients too.

    Returns: (rows, columns, size, size).
    """
    weight = get_parameters(layer)["weight"]
    assert weight is not None
    steps = _steps(sizes, size)
    matrices = [cast(nn.Parameter, get_parameters(layer)[name]) for name, _, _ in steps]
    crops = [_crop(larger, smaller, weight.dtype, weight.device) for _, larger, smaller in steps]
    parts = active_parts()
    if parts is not None and len(rows) == 1 and list(columns) == [(0, weight.size(1))] and weight.is_contiguous():
        block = (*rows[0], 0, 0)
        leaf = parts.leaf((block, size), lambda: _Filters(parts, weight, block, matrices, crops), weight, *matrices)
        if leaf is not None:
            return leaf
    filters = take_block(weight, rows, columns)
    whole = _compose(matrices, crops)[-1]
    return F.linear(filters.reshape(-1, whole.size(1)), whole).view(*filters.shape[:2], size, size)


def _compose(matrices: Matrices, crops: Matrices) -> list[torch.Tensor]:
    """Multiply crops and matrices in turn, from the largest size. Returns: the product after each of them."""
    found: list[torch.Tensor] = []
    for matrix, crop in zip(matrices, crops, strict=True):
        found.append(torch.mm(crop, found[-1]) if found else crop)
        found.append(torch.mm(matrix, found[-1]))
    return found


class _Filters(Leaf):
    """The filters of :func:`transform_filters` as a leaf: the same products, forward and backward, without autograd.

    Differs from autograd under autocast: filters stay in full precision.
    """

    def __init__(self, parts: Parts, weight: torch.Tensor, block: Block, matrices: Matrices, crops: Matrices) -> None:
        self._targets = [parts.target(matrix, (0, matrix.size(0), 0, 0)) for matrix in matrices]
        self._target = parts.target(weight, block)
        self._matrices, self._crops = [matrix.detach() for matrix in matrices], crops
        part = cut(weight.detach(), block)
        size = math.isqrt(len(matrices[-1]))
        self.memory, filters = parts.share_memory(weight, (*part.shape[:2], size, size))
        self.tensor = filters.detach().requires_grad_()
        self._shape, self._part, self._filters = part.shape, part.flatten(0, 1).flatten(1), filters.view(-1, size**2)

    def fill(self) -> None:
        kind = self._part.device.type
        if torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                self._fill()
        else:  # the context alone takes longer than this
            self._fill()

    def _fill(self) -> None:
        self._steps = _compose(self._matrices, self._crops)
        torch.mm(self._part, self._steps[-1].t(), out=self._filters)

    def spread(self, gradient: torch.Tensor) -> Sequence[tuple[Target, torch.Tensor]]:
        up = gradient.reshape(self._filters.shape)
        found = [(self._target, torch.mm(up, self._steps[-1]).view(self._shape))]
        up = torch.mm(up.t(), self._part)
        for i in range(len(self._matrices) - 1, -1, -1):
            found.append((self._targets[i], torch.mm(up, self._steps[2 * i].t())))
            if i:
                up = torch.mm(self._crops[i].t(), torch.mm(self._matrices[i].t(), up))
        return found


@functools.cache
def _steps(sizes: tuple[int, ...], size: int) -> list[tuple[str, int, int]]:
    """Return the matrices from the largest size down to ``size``: (name, from, to)."""
    down = pairwise(sorted((s for s in sizes if size <= s), reverse=True))
    return [(matrix_name(larger, smaller), larger, smaller) for larger, smaller in down]


@functools.cache
def _crop(larger: int, smaller: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(smaller**2, larger**2): what a flat filter is multiplied by to become its centre. A constant, made once."""
    eye = torch.eye(larger**2, dtype=dtype, device=device).view(larger**2, larger, larger)
    return crop_kernel(eye, smaller).reshape(larger**2, smaller**2).t().contiguous()
