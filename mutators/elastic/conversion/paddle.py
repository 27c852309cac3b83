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


class Convert:
    """A converter of networks; see :func:`convert`, which is the same in one call.

    Args:
        context: the candidates.

    Differs: weights are taken over; the network given stays as it is.
    """

    def __init__(self, context: supernet) -> None:
        self.context = context

    def convert(self, network: nn.Module, **how: Any) -> nn.Module:
        """Return a supernet. ``how``: the other arguments of :func:`convert`, such as ``skip_layers``.

        Raises:
            ElasticError: see :func:`convert`.
        """
        c = self.context
        return convert(
            network, kernel_size=c.kernel_size, expand_ratio=c.expand_ratio, channel=c.channel, depth=c.depth, **how
        )
