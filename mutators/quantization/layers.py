"""Layers with quantized weights and inputs, for Single Path One-Shot's mixed-precision search (arXiv:1904.00420).

All numbers of bits share one float weight. Each has its own clipping values, which are parameters of their own, so that
a step trains those alone that it runs with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import nn

from mutators.choices.errors import QuantizationError
from mutators.choices.torch_private import copy_layer, get_children, get_parameters
from mutators.choices.value_choice import ValueChoice
from mutators.choices.visitor import Extractable, Extraction
from mutators.quantization.quantizers import (
    ACTIVATION_CLIPS,
    MOST_BITS,
    quantize_activations,
    quantize_weights,
    start_clip,
)
from search_spaces.checks import whole

Bits = int | Sequence[int] | ValueChoice
"""A number of bits: fixed, one of several, or a choice that other layers share."""

BITS = (1, 2, 3, 4)
Pair = tuple[int, int]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
_KINDS = ("weight", "activation")


class Quantized(nn.Module, Extractable):
    """The base of quantized layers: their bits, their clipping values, and what becomes of them in an extraction.

    Attributes:
        weight_bits, activation_bits: a number, or the choice of one.
    """

    weight: Any  # a parameter
    weight_bits: int | ValueChoice
    activation_bits: int | ValueChoice
    PLAIN: type[nn.Module]

    @classmethod
    def of(cls, plain: nn.Module, weight_bits: Bits = BITS, activation_bits: Bits = BITS) -> Self:
        """Return a quantized layer that takes over, and shares, the parameters of ``plain``.

        Raises:
            QuantizationError: bits do not fit, or it is a layer of another kind.
        """
        if not isinstance(plain, cls.PLAIN):
            wanted = f"{cls.PLAIN.__module__}.{cls.PLAIN.__name__}"
            raise QuantizationError(f"{cls.__name__}.of got a {type(plain).__name__}, wanted a {wanted}.")
        layer = cls.__new__(cls)
        layer.__dict__.update(copy_layer(plain).__dict__)
        layer._set_bits(weight_bits, activation_bits)
        return layer

    @property
    def bits(self) -> Pair:
        """Return the bits in use: of the weights, and of the activations."""
        return _in_use(self.weight_bits), _in_use(self.activation_bits)

    def quantized_weight(self) -> torch.Tensor:
        """Return the weight as the layer runs with it: of at most 2^bits different numbers."""
        bits = _in_use(self.weight_bits)
        return quantize_weights(self.weight, self._clip("weight", bits), bits)

    def quantized_input(self, x: torch.Tensor) -> torch.Tensor:
        """Return an input, of any shape, as the layer runs with it: at most 2^bits different numbers from 0 up."""
        bits = _in_use(self.activation_bits)
        return quantize_activations(x, self._clip("activation", bits), bits)

    @torch.no_grad()
    def reset_clipping(self) -> None:
        """Set all clipping values to where little is lost; call it after weights were set anew or loaded."""
        for bits in _options(self.weight_bits):
            self._clip("weight", bits).copy_(start_clip(self.weight, bits))
        for bits in _options(self.activation_bits):
            self._clip("activation", bits).fill_(ACTIVATION_CLIPS[bits - 1])

    def find_choices(self) -> tuple[nn.Module, ...]:
        """Return the choices of the bits."""
        return tuple(bits for bits in (self.weight_bits, self.activation_bits) if isinstance(bits, ValueChoice))

    def extracted(self, extraction: Extraction) -> nn.Module:
        """Return the layer of the planned bits, with quantized numbers for its weight.

        They are their own quantization: it computes the same, and can be trained on.
        """
        plain = extraction.put(self, type(self).__new__(type(self)))
        for name, value in vars(self).items():
            vars(plain)[name] = extraction.copy(value)
        children, parameters = get_children(plain), get_parameters(plain)
        for kind in _KINDS:
            choice = getattr(self, f"{kind}_bits")
            children.pop(f"{kind}_bits", None)
            bits = choice if isinstance(choice, int) else int(choice.values[choice.index_in(extraction.plan)])
            vars(plain)[f"{kind}_bits"] = bits
            for other in set(_options(choice)) - {bits}:
                del parameters[_clip_name(kind, other)]
        with torch.no_grad():
            plain.weight = nn.Parameter(plain.quantized_weight(), self.weight.requires_grad)
        return plain

    def _set_bits(self, weight_bits: Bits, activation_bits: Bits) -> None:
        """Take over the bits, and begin to clip."""
        given = {"weight_bits": weight_bits, "activation_bits": activation_bits}
        problems = [problem for name, bits in given.items() for problem in _check_bits(name, bits)]
        if problems:
            raise QuantizationError(f"this {type(self).__name__} cannot have these bits:", problems)
        for kind in _KINDS:
            bits = given[f"{kind}_bits"]
            choice = ValueChoice(bits) if isinstance(bits, Sequence) else bits
            if isinstance(choice, ValueChoice):
                choice.feeds_layers = True
            setattr(self, f"{kind}_bits", choice)
            for option in _options(choice):
                empty = torch.empty((), dtype=self.weight.dtype, device=self.weight.device)
                self.register_parameter(_clip_name(kind, option), nn.Parameter(empty))
        self.reset_clipping()

    def _clip(self, kind: str, bits: int) -> nn.Parameter:
        clip = self._parameters[_clip_name(kind, bits)]
        assert clip is not None
        return clip

    def extra_repr(self) -> str:
        shown = ", ".join(
            f"{kind}_bits={'/'.join(map(str, _options(getattr(self, f'{kind}_bits'))))}" for kind in _KINDS
        )
        return f"{super().extra_repr()}, {shown}"


class QuantizedConv2d(Quantized, nn.Conv2d):
    """A ``Conv2d`` whose weights and inputs are quantized; inputs below zero become zero, as after a ReLU.

    :meth:`of` makes one from a plain layer. Its own choices, where several bits are given: ``weight_bits`` and
    ``activation_bits``.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode: as for
            ``nn.Conv2d``. The bias is not quantized.
        weight_bits, activation_bits: from 1 to 8: a number, several to choose from, or a ``ValueChoice`` of such that
            several layers share, and that stands in the model where its key says.

    Raises:
        QuantizationError: bits do not fit.
    """

    PLAIN = nn.Conv2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: str | int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        *,
        weight_bits: Bits = BITS,
        activation_bits: Bits = BITS,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        self._set_bits(weight_bits, activation_bits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        out: torch.Tensor = self._conv_forward(self.quantized_input(x), self.quantized_weight(), self.bias)
        return out


class QuantizedLinear(Quantized, nn.Linear):
    """A ``Linear`` whose weights and inputs are quantized; see :class:`QuantizedConv2d` for the bits."""

    PLAIN = nn.Linear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weight_bits: Bits = BITS,
        activation_bits: Bits = BITS,
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self._set_bits(weight_bits, activation_bits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) to (..., out_features)."""
        return F.linear(self.quantized_input(x), self.quantized_weight(), self.bias)


def _in_use(bits: Any) -> int:
    return bits if isinstance(bits, int) else int(bits.value)


def _options(bits: Any) -> tuple[int, ...]:
    return (bits,) if isinstance(bits, int) else tuple(map(int, bits.values))


def _clip_name(kind: str, bits: int) -> str:
    return f"{kind}_clip{bits}"


def _check_bits(name: str, bits: Any) -> list[str]:
    if isinstance(bits, ValueChoice):
        bits = bits.values
    if not isinstance(bits, Sequence):
        bits = [bits]
    found = [problem for option in bits for problem in whole(name, option, 1)]
    return found + [
        f"{name} has {option}, wanted at most {MOST_BITS}" for option in bits if not found and option > MOST_BITS
    ]
