"""Parts of a tensor: the same numbers, and the same gradients, as plain indexing gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mutators.elastic.layers import ElasticBatchNorm2d
from mutators.elastic.layers.width import Span, take_block


@st.composite
def spans(draw: st.DrawFn, full: int) -> list[Span]:
    """One or two parts of ``full`` channels, not overlapping, ascending."""
    edges = sorted(draw(st.sets(st.integers(0, full), min_size=2, max_size=4)))
    edges = edges[: len(edges) // 2 * 2]
    return [(start, end - start) for start, end in zip(edges[::2], edges[1::2], strict=True)]


@settings(deadline=None)  # the first call of an operation takes its time
@given(rows=spans(7), columns=spans(5), dims=st.sampled_from([(), (1, 1), (3, 3)]))
def test_a_block_and_its_gradient_are_those_of_indexing(
    rows: list[Span], columns: list[Span], dims: tuple[int, ...]
) -> None:
    tensor = torch.randn(7, 5, *dims, requires_grad=True)
    block = take_block(tensor, rows, columns)
    at = [torch.cat([torch.arange(start, start + length) for start, length in part]) for part in (rows, columns)]
    expected = tensor[at[0]][:, at[1]]
    assert torch.equal(block, expected)
    up = torch.randn_like(block)
    (mine,) = torch.autograd.grad(block, tensor, up)
    (theirs,) = torch.autograd.grad(expected, tensor, up)
    assert torch.equal(mine, theirs)


def test_what_torchs_norm_refuses_an_elastic_one_refuses() -> None:
    for norm in (nn.BatchNorm2d(4), ElasticBatchNorm2d(4)):
        with pytest.raises(ValueError, match="value"):
            norm(torch.randn(1, 4, 1, 1))
        with pytest.raises(ValueError, match="expected 4D input"):
            norm(torch.randn(2, 4))
        norm.eval()(torch.randn(1, 4, 1, 1))
