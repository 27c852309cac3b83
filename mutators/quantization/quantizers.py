"""Round activations and weights to a few levels below a clipping value that is learnt.

Activations by PACT (Choi et al., 2018, arXiv:1805.06085): the levels are ``clip * i / n`` for i from 0 to n, which is
2^bits - 1. Weights have as many, ``clip * (2 i - n) / n``, which lie evenly on both sides of zero; one bit is a sign.
Rounding lets gradients through as they are. The clipping value gets the gradients of what it clips, and no other.

Differs: PACT's authors leave the clipping of weights to DoReFa's hyperbolic tangent, and later to a formula of their
moments (SAWB). Here it is learnt by PACT's own rule, so that quantized weights are their own quantization, which
neither of these guarantees; and so that each number of bits has its own. Its gradient is scaled by 1 / sqrt(weights *
n), as in LSQ (Esser et al., ICLR 2020, arXiv:1902.08153), since the many weights of a layer share it. And clipping
values have no weight decay.
"""

from __future__ import annotations

import math

import torch

MOST_BITS = 8

ACTIVATION_CLIPS = (1.2240, 1.9523, 2.4739, 2.8987, 3.2701, 3.6075, 3.9205, 4.2147)
WEIGHT_CLIPS = (0.7979, 1.4935, 2.0511, 2.5140, 2.9162, 3.2780, 3.6111, 3.9222)
"""By bits, from one on, where clipping begins: what loses least of a normal distribution of deviation 1, of its
positive half for activations (Max, "Quantizing for minimum distortion", IRE Transactions on Information Theory, 1960).
PACT begins at one large number; with a single bit nearly all activations of a batch norm would then be zero."""

_SMALLEST = 1e-5  # a clipping value that training has driven to zero or beyond would divide by zero, or swap signs


def quantize_activations(x: torch.Tensor, clip: torch.Tensor, bits: int) -> torch.Tensor:
    """Clip a tensor of any shape to [0, clip] and round it to 2^bits levels; ``clip`` is ()."""
    clip = _keep_positive(clip)
    clipped = torch.where(x >= clip, clip, x.clamp(min=0))  # a NaN stays one
    step = clip.detach() / (2**bits - 1)
    return _pass_gradient(clipped, torch.round(clipped.detach() / step) * step)


def quantize_weights(weight: torch.Tensor, clip: torch.Tensor, bits: int) -> torch.Tensor:
    """Clip a tensor of any shape to [-clip, clip] and round it to 2^bits levels; ``clip`` is ()."""
    n = 2**bits - 1
    clip = _keep_positive(_scale_gradient(clip, 1 / math.sqrt(weight.numel() * n)))
    clipped = torch.where(weight >= clip, clip, torch.where(weight <= -clip, -clip, weight))
    step = 2 * clip.detach() / n
    index = torch.round(clipped.detach() / step + n / 2)
    return _pass_gradient(clipped, (index - n / 2) * step)


def start_clip(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Return where the clipping of weights begins, (): that of a normal distribution, or of a uniform one if less.

    A clipping value beyond all weights would leave levels unused, and get no gradient that makes it smaller.
    """
    normal = WEIGHT_CLIPS[bits - 1] * weight.square().mean().sqrt()
    return torch.minimum(normal, weight.abs().max() * (1 - 2.0**-bits))


def _pass_gradient(x: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """Return ``rounded``, to the last bit, with the gradient of ``x``."""
    return rounded + (x - x.detach()) if torch.is_grad_enabled() else rounded


def _scale_gradient(x: torch.Tensor, factor: float) -> torch.Tensor:
    """Return ``x``, to the last bit, with its gradient times ``factor``."""
    return x.detach() + (x - x.detach()) * factor if torch.is_grad_enabled() else x


def _keep_positive(clip: torch.Tensor) -> torch.Tensor:
    """Return a clipping value that is positive, with the gradient that lets it grow again."""
    return clip + (clip.detach().clamp(min=_SMALLEST) - clip.detach())
