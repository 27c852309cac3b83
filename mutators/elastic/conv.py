"""A convolution with elastic kernel and channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, cast

import torch
import torch.nn.functional as F
from torch import nn

from mutators.elastic.choice import ElasticChoice, Plan
from mutators.elastic.errors import ElasticError
from mutators.elastic.kernel import add_matrices, centre, checked_kernels, grown, transformed
from mutators.elastic.layer import Elastic, Size, fill, full_size, plan_of
from mutators.elastic.width import Span, take

Pair = tuple[int, int]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class ElasticConv2d(Elastic):
    """A ``Conv2d`` of which a part runs: the centre of the kernel, and the first channels.

    Dense, depthwise (``groups`` is the number of channels: the output then has the input's channels) or grouped (the
    number of groups stays, so that every number of channels has to be a multiple of it). Choices that it has of its
    own: ``kernel_size`` and ``channel``.

    Args:
        in_channels: what there is in the input; a fixed number says only how many there are at most, and the input
            itself then how many there are.
        out_channels: a number, several to choose from, or a width that other layers have too.
        kernel_size: one odd number, or several to choose from.
        stride, dilation, groups, bias, padding_mode: as for ``nn.Conv2d``.
        padding: at the largest kernel; None: as much as keeps the size at stride 1. Smaller kernels get that much
            less that the output has the same size.
        transform_kernel: learn a matrix from each kernel size to the next; without, smaller kernels are plain crops.

    Raises:
        ElasticError: a kernel is even, channels are no multiple of the groups, or the padding is too small for a crop.
    """

    def __init__(
        self,
        in_channels: Size,
        out_channels: Size,
        kernel_size: int | Sequence[int],
        stride: int | tuple[int, int] = 1,
        padding: int | None = None,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        transform_kernel: bool = True,
    ) -> None:
        sizes = checked_kernels([kernel_size] if isinstance(kernel_size, int) else kernel_size)
        pad = dilation * (sizes[-1] - 1) // 2 if padding is None else padding
        conv = nn.Conv2d(
            full_size(in_channels),
            full_size(out_channels),
            sizes[-1],
            stride,
            pad,
            dilation,
            groups,
            bias,
            padding_mode,
        )
        inputs = None if isinstance(in_channels, int) else in_channels
        self._adopt(conv, inputs, out_channels, sizes if len(sizes) > 1 else None, transform_kernel)

    @classmethod
    def of(
        cls,
        conv: nn.Conv2d,
        in_channels: Size | None = None,
        out_channels: Size | None = None,
        kernel_size: Sequence[int] | None = None,
        transform_kernel: bool = True,
    ) -> Self:
        """An elastic layer with the weights of ``conv``, whose parameters it takes over where they have their size.

        Args:
            conv: any; the largest sub-layer computes what it does.
            in_channels, out_channels: None: as many as ``conv`` has.
            kernel_size: to choose from; None: the kernel stays. Where the largest is larger than that of ``conv``,
                zeros surround it.
            transform_kernel: see the class.

        Raises:
            ElasticError: sizes do not fit ``conv``.
        """
        layer = cls.__new__(cls)
        sizes = None if kernel_size is None else checked_kernels(kernel_size)
        outputs = conv.out_channels if out_channels is None else out_channels
        layer._adopt(conv, in_channels, outputs, sizes, transform_kernel)
        return layer

    def _adopt(
        self,
        conv: nn.Conv2d,
        inputs: Size | None,
        outputs: Size,
        sizes: tuple[int, ...] | None,
        transform_kernel: bool,
    ) -> None:
        _check_kernel(conv, sizes)
        nn.Module.__init__(self)
        self.stride, self.dilation = cast(Pair, conv.stride), cast(Pair, conv.dilation)
        self.groups = conv.groups
        self.padding = cast(Pair | str, conv.padding)
        self.padding_mode = conv.padding_mode
        self.depthwise = conv.groups == conv.in_channels == conv.out_channels and conv.groups > 1
        self.weight, self.bias = conv.weight, conv.bias
        self.kernel_size: ElasticChoice | tuple[int, ...] = conv.kernel_size
        self._kernels = sizes or ()
        self._own_kernel = conv.kernel_size[0]  # the size that ``padding`` belongs to
        self._transforms = transform_kernel
        if sizes is not None:
            if sizes[-1] > conv.kernel_size[0]:
                self.weight = nn.Parameter(grown(conv.weight.detach(), sizes[-1]), conv.weight.requires_grad)
            self.kernel_size = ElasticChoice(sizes)
            if transform_kernel:
                add_matrices(self, sizes)
        self.in_channels = self._own("in_channel", inputs)
        self.out_channels = self.in_channels if self.depthwise else self._own("channel", outputs)
        self._check_sizes(conv, outputs)
        self.train(conv.training)

    def _check_sizes(self, conv: nn.Conv2d, outputs: Size) -> None:
        wanted = {"in_channels": conv.in_channels, "out_channels": conv.out_channels}
        given = {"in_channels": self.in_channels, "out_channels": self.out_channels}
        problems = [
            f"{name} are {channels.full} at most, but the layer has {wanted[name]}"
            for name, channels in given.items()
            if channels is not None and channels.full != wanted[name]
        ]
        if self.depthwise and not isinstance(outputs, int) and outputs is not self.in_channels:
            problems.append("out_channels are to be chosen, but a depthwise layer has its input's: choose those")
        if self.groups > 1 and not self.depthwise:
            for name, channels in given.items():
                if channels is None:
                    continue
                if len(channels.segments) > 1:
                    problems.append(f"{name} are put together of {len(channels.segments)} parts, and there are groups")
                problems += [
                    f"{name} {n} is no multiple of the {self.groups} groups"
                    for width, unit in channels.segments
                    for n in (size * unit for size in width.offered)
                    if n % self.groups
                ]
        if problems:
            raise ElasticError("this convolution cannot be elastic like this:", problems)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W') with the channels now in use; H' and W' are the full layer's."""
        spans = [(0, x.shape[1])] if self.in_channels is None else self.in_channels.spans()
        weight, bias = self._slices(spans, None)
        groups = weight.shape[0] if self.depthwise else self.groups
        padding = self._padding(weight.shape[-1])
        if self.padding_mode != "zeros":
            assert not isinstance(padding, str)
            x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]), mode=self.padding_mode)
            padding = (0, 0)
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, groups)

    def active_weight(self, in_channels: int | None = None) -> torch.Tensor:
        """The filter now in use, (C_out, C_in / groups, k, k).

        Args:
            in_channels: of the input, where the layer does not know it by itself; None: all.
        """
        known = self.in_channels
        n = in_channels or (self.weight.shape[0] if self.depthwise else self.weight.shape[1] * self.groups)
        return self._slices([(0, n)] if known is None else known.spans(), None)[0]

    def _slices(self, inputs: Sequence[Span], plan: Plan) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias in use; of the largest layer the parameters themselves."""
        if self.depthwise:
            outputs: Sequence[Span] = inputs
        else:
            outputs = [(0, self.weight.shape[0])] if self.out_channels is None else self.out_channels.spans(plan)
        weight = take(self.weight, 0, outputs)
        if not self.depthwise:
            spans = [(0, inputs[0][1] // self.groups)] if self.groups > 1 else inputs
            weight = take(weight, 1, spans)
        if isinstance(self.kernel_size, ElasticChoice):
            size = self._kernels[self.kernel_size.index_in(plan)]
            weight = self._shrunk(weight, size)
        return weight, None if self.bias is None else take(self.bias, 0, outputs)

    def _shrunk(self, weight: torch.Tensor, size: int) -> torch.Tensor:
        if weight.shape[-1] == size:
            return weight
        return transformed(self, weight, self._kernels, size) if self._transforms else centre(weight, size)

    def _padding(self, size: int) -> Pair | str:
        if isinstance(self.padding, str):
            return self.padding
        top, left = self.padding
        change = size - self._own_kernel if self._kernels else 0
        return top + self.dilation[0] * change // 2, left + self.dilation[1] * change // 2

    def _extracted(self, memo: dict[int, Any]) -> nn.Conv2d:
        plan = plan_of(memo)
        known = self.in_channels
        n = self.weight.shape[0] if self.depthwise else self.weight.shape[1] * self.groups
        inputs = [(0, n)] if known is None else known.spans(plan)
        weight, bias = self._slices(inputs, plan)
        groups = weight.shape[0] if self.depthwise else self.groups
        plain = nn.Conv2d(
            sum(length for _, length in inputs),
            weight.shape[0],
            cast(Pair, tuple(weight.shape[2:])),
            self.stride,
            self._padding(weight.shape[-1]),
            self.dilation,
            groups,
            bias is not None,
            self.padding_mode,
            device="meta",
        )
        fill(plain, {"weight": weight, "bias": bias}, self)
        return plain

    def extra_repr(self) -> str:
        """The largest layer's shape, and what is special."""
        kind = ", depthwise" if self.depthwise else f", groups={self.groups}" if self.groups > 1 else ""
        return f"{tuple(self.weight.shape)}, stride={self.stride}, padding={self.padding}{kind}"


def _check_kernel(conv: nn.Conv2d, sizes: tuple[int, ...] | None) -> None:
    if sizes is None:
        return
    height, width = conv.kernel_size
    if height != width or height % 2 == 0:
        raise ElasticError(
            f"the kernel is {height} x {width}, wanted a square and odd one: leave kernel_size out here."
        )
    if isinstance(conv.padding, str):
        if conv.padding == "valid":
            raise ElasticError("the padding is 'valid', so that kernels of other sizes would change the output's size.")
        return
    least = min(p + d * (sizes[0] - height) // 2 for p, d in zip(conv.padding, conv.dilation, strict=True))
    if least < 0:
        raise ElasticError(
            f"padding {conv.padding} is too small to crop the {height} x {width} kernel to {sizes[0]} and keep the "
            f"output's size: wanted at least {tuple(d * (height - sizes[0]) // 2 for d in conv.dilation)}."
        )
