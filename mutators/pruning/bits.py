"""Tensors seen as bits: what is zero and what is not, whatever type of number the bits stand for."""

from __future__ import annotations

import torch

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def integer_as_wide_as(tensor: torch.Tensor) -> torch.dtype:
    """The signed integer that takes as many bytes as an element of the tensor."""
    return _INTEGERS[tensor.itemsize]
