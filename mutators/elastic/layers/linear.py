"""A linear layer with elastic features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.visitor import Extraction
from mutators.elastic.layers.layer import Axis, Elastic, Size, check_size, fill, full_size
from mutators.elastic.layers.width import take, take_block


class ElasticLinear(Elastic):
    """A ``Linear`` that runs with its first features. Its own choice: ``channel``.

    Args:
        in_features: those of the input; a fixed number is the largest, and the input may have fewer.
        out_features: a number, several to choose from, or a width that other layers share.
        bias: as for ``nn.Linear``.

    Attributes:
        inputs, outputs: the layouts of the features; None: those of the input, and all outputs.

    Raises:
        ElasticError: sizes do not fit.
    """

    def __init__(self, in_features: Size, out_features: Size, bias: bool = True) -> None:
        linear = nn.Linear(full_size(in_features), full_size(out_features), bias)
        self._adopt(linear, None if isinstance(in_features, int) else in_features, out_features)

    @classmethod
    def of(cls, linear: nn.Linear, in_features: Size | None = None, out_features: Size | None = None) -> Self:
        """Return an elastic layer that takes over the parameters of ``linear``; None: its features.

        Raises:
            ElasticError: sizes do not fit ``linear``.
        """
        layer = cls.__new__(cls)
        layer._adopt(linear, in_features, out_features)
        return layer

    def _adopt(self, linear: nn.Linear, inputs: Size | None, outputs: Size | None) -> None:
        nn.Module.__init__(self)
        self.weight, self.bias = linear.weight, linear.bias
        self.inputs, self.outputs = self._own("in_channel", inputs), self._own("channel", outputs)
        problems = check_size("in_features", self.inputs, linear.in_features)
        problems += check_size("out_features", self.outputs, linear.out_features)
        if problems:
            raise ElasticError("this linear layer cannot be elastic like this:", problems)
        self._follow(linear)

    @property
    def in_features(self) -> int:
        """Number of input features in use; all, where the input decides."""
        return self.weight.shape[1] if self.inputs is None else self.inputs.size()

    @property
    def out_features(self) -> int:
        """Number of output features in use."""
        return self.weight.shape[0] if self.outputs is None else self.outputs.size()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features), both as in use."""
        weight, bias = self._running(x.shape[-1])
        assert weight is not None
        return F.linear(x, weight, bias)

    def axes(self) -> Iterator[Axis]:
        if self.outputs is not None:
            yield Axis("weight", 0, self.outputs)
            if self.bias is not None:
                yield Axis("bias", 0, self.outputs)
        if self.inputs is not None:
            yield Axis("weight", 1, self.inputs, reads=True)

    def _slices(self, n: int, plan: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        inputs = [(0, n)] if self.inputs is None else self.inputs.spans(plan)
        outputs = [(0, self.weight.shape[0])] if self.outputs is None else self.outputs.spans(plan)
        bias = None if self.bias is None else take(self.bias, 0, outputs)
        return take_block(self.weight, outputs, inputs), bias

    def _extracted(self, extraction: Extraction) -> nn.Module:
        weight, bias = self._slices(self.weight.shape[1], extraction.plan)
        plain = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
        return fill(plain, {"weight": weight, "bias": bias}, self)

    def extra_repr(self) -> str:
        return f"in_features={self.weight.shape[1]}, out_features={self.weight.shape[0]}, bias={self.bias is not None}"
