"""Elastic kernels: a smaller filter is the centre of the next larger one, times a learnable matrix.

After Once-for-All (Cai et al., ICLR 2020, arXiv:1908.09791). From ``7to5_matrix`` (25, 25) and ``5to3_matrix`` (9, 9),
which begin as identities, the 3x3 filter is crop(crop(w7) @ M75.T) @ M53.T, with filters flattened row by row; all
channels share a layer's matrices. Differs: growing a layer's kernel is a matter of zeros round its filter.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from mutators.elastic.errors import ElasticError
from search_spaces.domains import is_int


def checked_kernels(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return kernel sizes, ascending.

    Raises:
        ElasticError: there are none, or they are not odd and distinct.
    """
    wrong = [size for size in sizes if not is_int(size) or size < 1 or size % 2 == 0]
    if not sizes or wrong or len(set(sizes)) < len(sizes):
        raise ElasticError(
            f"kernel sizes are {list(sizes)}, wanted distinct odd numbers: the centre of an even kernel is no pixel."
        )
    return tuple(sorted(sizes))


def matrix_name(larger: int, smaller: int) -> str:
    """The name of the matrix that leads from one size to the next."""
    return f"{larger}to{smaller}_matrix"


def add_matrices(layer: nn.Module, sizes: Sequence[int]) -> None:
    """Give a layer its matrices as parameters, identities, largest first; of its weight's type, and where that is."""
    weight = layer._parameters["weight"]
    assert weight is not None
    for larger, smaller in pairwise(sorted(sizes, reverse=True)):
        eye = torch.eye(smaller**2, dtype=weight.dtype, device=weight.device)
        layer.register_parameter(matrix_name(larger, smaller), nn.Parameter(eye))


def grown(weight: torch.Tensor, size: int) -> torch.Tensor:
    """(..., k, k) to (..., size, size), with zeros round it."""
    margin = (size - weight.shape[-1]) // 2
    return torch.constant_pad_nd(weight, (margin, margin, margin, margin))  # F.pad does the same, more slowly


def centre(weight: torch.Tensor, size: int) -> torch.Tensor:
    """(..., k, k) to its middle, (..., size, size)."""
    start = (weight.shape[-1] - size) // 2
    return weight[..., start : start + size, start : start + size]


def transformed(layer: nn.Module, weight: torch.Tensor, sizes: tuple[int, ...], size: int) -> torch.Tensor:
    """(..., k, k) of the largest size to (..., size, size), by way of all sizes in between.

    Differs: crops and matrices are first made one matrix, (size * size, k * k), which is small whatever the number of
    channels; so the filters are touched once, and their gradients too.
    """
    largest = weight.shape[-1]
    whole: torch.Tensor | None = None
    for name, larger, smaller in _steps(sizes, largest, size):
        matrix = layer._parameters[name]
        assert matrix is not None
        crop = _crop(larger, smaller, weight.dtype, weight.device)
        whole = matrix @ (crop if whole is None else crop @ whole)
    if whole is None:
        return weight
    return F.linear(weight.reshape(-1, largest**2), whole).view(*weight.shape[:-2], size, size)


@functools.cache
def _steps(sizes: tuple[int, ...], largest: int, size: int) -> list[tuple[str, int, int]]:
    """From the largest to a size: names of the matrices, and between which sizes each is."""
    down = pairwise(sorted((s for s in sizes if size <= s <= largest), reverse=True))
    return [(matrix_name(larger, smaller), larger, smaller) for larger, smaller in down]


@functools.cache
def _crop(larger: int, smaller: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(smaller**2, larger**2): what a flat filter is multiplied by to become its centre. A constant, made once."""
    eye = torch.eye(larger**2, dtype=dtype, device=device).view(larger**2, larger, larger)
    return centre(eye, smaller).reshape(larger**2, smaller**2).t().contiguous()
