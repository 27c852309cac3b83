"""Levels, clipping and gradients of quantizers, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from mutators.quantization.quantizers import (
    ACTIVATION_CLIPS,
    MOST_BITS,
    WEIGHT_CLIPS,
    quantize_activations,
    quantize_weights,
)

EACH = range(1, MOST_BITS + 1)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, requires_grad=True)


def test_activations_of_two_bits() -> None:
    """Clip 3: levels 0, 1, 2, 3. The clip's gradient is the sum of those of what it clips, as in PACT."""
    x = torch.tensor([-1.0, 0.4, 0.6, 1.7, 2.9, 3.0, 7.0], requires_grad=True)
    clip, up = scalar(3.0), torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    out = quantize_activations(x, clip, 2)
    assert out.tolist() == [0, 0, 1, 2, 3, 3, 3]
    out.backward(up)
    assert x.grad is not None and x.grad.tolist() == [0, 2, 4, 8, 16, 0, 0]
    assert clip.grad is not None and clip.grad.item() == 32 + 64


def test_weights_of_two_bits() -> None:
    """Clip 3: levels -3, -1, 1, 3. Six weights with three steps between the levels share the clip."""
    w = torch.tensor([-9.0, -2.1, -0.1, 0.1, 2.1, 3.0], requires_grad=True)
    clip, up = scalar(3.0), torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    out = quantize_weights(w, clip, 2)
    assert out.tolist() == [-3, -3, -1, 1, 3, 3]
    out.backward(up)
    assert w.grad is not None and w.grad.tolist() == [0, 2, 4, 8, 16, 0]
    assert clip.grad is not None and clip.grad.item() == pytest.approx((32 - 1) / math.sqrt(6 * 3))


def test_one_bit_is_a_sign_or_all_or_nothing() -> None:
    w, clip = torch.tensor([-5.0, -1e-3, 1e-3, 0.2, 5.0]), torch.tensor(0.7)
    assert torch.equal(quantize_weights(w, clip, 1), clip * torch.tensor([-1.0, -1.0, 1.0, 1.0, 1.0]))
    assert torch.equal(quantize_activations(w, clip, 1), clip * torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]))


@pytest.mark.parametrize("bits", EACH)
def test_there_are_two_to_the_bits_levels_and_each_stays_where_it_is(bits: int) -> None:
    """To the last bit, so that an exported network has no more of them than promised."""
    generator = torch.Generator().manual_seed(bits)
    for clip in torch.rand(20, generator=generator):
        w = torch.randn(40_000, generator=generator) * clip
        for quantize in (quantize_weights, quantize_activations):
            out = quantize(w, clip, bits)
            assert len(out.unique()) == 2**bits and out.abs().max() == pytest.approx(clip.item())
            assert torch.equal(quantize(out, clip, bits), out)


@pytest.mark.parametrize("bits", EACH)
def test_clipping_begins_where_a_normal_distribution_loses_least(bits: int) -> None:
    z = torch.linspace(-8, 8, 100_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2)
    for quantize, best, x in (
        (quantize_weights, WEIGHT_CLIPS[bits - 1], z),
        (quantize_activations, ACTIVATION_CLIPS[bits - 1], z.clamp(min=0)),
    ):
        near = [best * factor for factor in (0.97, 1.0, 1.03)]
        losses = [((quantize(x, x.new_tensor(clip), bits) - x).square() * density).sum() for clip in near]
        assert min(losses) == losses[1]


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_a_clip_at_or_below_zero_can_grow_again(value: float) -> None:
    for quantize in (quantize_weights, quantize_activations):
        clip = scalar(value)
        out = quantize(torch.tensor([0.5, 1.0]), clip, 3)
        out.sum().backward()
        assert out.isfinite().all() and (out > 0).all() and clip.grad is not None and clip.grad > 0


def test_what_is_no_number_stays_so() -> None:
    for quantize in (quantize_weights, quantize_activations):
        assert quantize(torch.tensor([math.nan, 1.0]), torch.tensor(2.0), 4).isnan().tolist() == [True, False]
