"""Convert in PaddleSlim's spelling: ``Convert(supernet(kernel_size=..., expand_ratio=...)).convert(model)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mutators.elastic.conversion.convert import convert
from mutators.elastic.conversion.options import Depth


@dataclass(frozen=True)
class supernet:
    """The candidates of a conversion; see :func:`convert` for each argument.

    Differs: in PaddleSlim it is a context within which layers are defined; here it only holds the arguments, and may be
    used again.
    """

    kernel_size: int | Sequence[int] | None = None
    expand_ratio: float | Sequence[float] | None = None
    channel: Sequence[Sequence[int]] | Mapping[str, Sequence[int]] | None = None
    depth: Depth = None


@dataclass
class Convert:
    """A converter of networks; see :func:`convert`, which is the same in one call.

    Differs: weights are taken over; the network given stays as it is.
    """

    context: supernet

    def convert(self, network: nn.Module, **how: Any) -> nn.Module:
        """Return a supernet, as :func:`convert` does, which has the other arguments, such as ``skip_layers``."""
        return convert(network, **vars(self.context), **how)
