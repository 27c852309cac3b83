"""The base of elastic convolutions: elastic kernel and channels, slicing, and the plain layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, cast

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.value_choice import ValueChoice
from mutators.choices.visitor import Extraction, Plan
from mutators.elastic.layers.kernel import add_matrices, check_kernels, crop_kernel, grow_kernel, transform_filters
from mutators.elastic.layers.layer import Axis, Elastic, Size, check_size, fill, full_size
from mutators.elastic.layers.width import take, take_block

Pair = tuple[int, int]
Convolution = nn.Conv2d | nn.ConvTranspose2d
Sizes = tuple[int, ...] | None


class ElasticConvolution(Elastic):
    """A convolution over two dimensions that runs in part. Subclasses write ``forward``.

    Attributes:
        inputs, outputs: the layouts of the channels; None: those of the input, and all outputs.
        weight: of the largest layer: outputs along dimension ``OUT``, inputs along ``IN``; dimension 1 counts those of
            one group only.
        depthwise: whether each channel is a group of its own; the output's channels are then the input's.
    """

    PLAIN: ClassVar[Callable[..., Convolution]]
    OUT: ClassVar[int]
    IN: ClassVar[int]

    @classmethod
    def of(
        cls,
        conv: Any,
        in_channels: Size | None = None,
        out_channels: Size | None = None,
        kernel_size: Sequence[int] | None = None,
        transform_kernel: bool = True,
    ) -> Self:
        """Return an elastic layer with the weights of ``conv``; parameters that keep their size are taken over.

        Args:
            conv: the plain layer; the largest sub-layer computes what it does.
            in_channels, out_channels: None: those of ``conv``.
            kernel_size: to choose from; None: the kernel stays. Where the largest is larger than that of ``conv``,
                zeros surround it.
            transform_kernel: see the class.

        Raises:
            ElasticError: sizes do not fit ``conv``.
        """
        layer = cls.__new__(cls)
        sizes = None if kernel_size is None else check_kernels(kernel_size)
        outputs = conv.out_channels if out_channels is None else out_channels
        layer._adopt(conv, in_channels, outputs, sizes, transform_kernel)
        return layer

    def _build(
        self,
        in_channels: Size,
        out_channels: Size,
        kernel_size: int | Sequence[int],
        padding: int | None,
        dilation: int,
        transform_kernel: bool,
        more: Mapping[str, object],
    ) -> None:
        """Build the layer from the arguments of a constructor; ``more`` are those of the plain layer alone."""
        sizes = check_kernels([kernel_size] if isinstance(kernel_size, int) else kernel_size)
        pad = dilation * (sizes[-1] - 1) // 2 if padding is None else padding
        n_in, n_out = full_size(in_channels), full_size(out_channels)
        conv = self.PLAIN(n_in, n_out, sizes[-1], padding=pad, dilation=dilation, **more)
        inputs = None if isinstance(in_channels, int) else in_channels
        self._adopt(conv, inputs, out_channels, sizes if len(sizes) > 1 else None, transform_kernel)

    def _adopt(self, conv: Convolution, inputs: Size | None, outputs: Size, sizes: Sizes, transform: bool) -> None:
        _check_kernel(conv, sizes)
        nn.Module.__init__(self)
        self.stride, self.dilation = cast(Pair, conv.stride), cast(Pair, conv.dilation)
        self._groups, self._own_padding = conv.groups, cast(Pair | str, conv.padding)
        self.padding_mode, self.output_padding = conv.padding_mode, cast(Pair, conv.output_padding)
        self.depthwise = conv.groups == conv.in_channels == conv.out_channels and conv.groups > 1
        self.weight, self.bias = conv.weight, conv.bias
        self._kernels = sizes or ()
        self._own_kernel = conv.kernel_size[0]  # the kernel that ``_own_padding`` is for
        self._transforms = transform
        if sizes is not None:
            if sizes[-1] > conv.kernel_size[0]:
                self.weight = nn.Parameter(grow_kernel(conv.weight.detach(), sizes[-1]), conv.weight.requires_grad)
            self._modules["kernel_size"] = ValueChoice(sizes)  # its key; the attribute is torch's, a pair of ints
            if transform:
                add_matrices(self, sizes)
        self.inputs = self._own("in_channel", inputs)
        self.outputs = self.inputs if self.depthwise else self._own("channel", outputs)
        self._check_sizes(conv, outputs)
        self._follow(conv)

    def _check_sizes(self, conv: Convolution, outputs: Size) -> None:
        problems = check_size("in_channels", self.inputs, conv.in_channels)
        problems += check_size("out_channels", self.outputs, conv.out_channels)
        if self.depthwise and not isinstance(outputs, int) and outputs is not self.inputs:
            problems.append("out_channels are to be chosen, but a depthwise layer has its input's: choose those")
        for name, channels in (("in_channels", self.inputs), ("out_channels", self.outputs)):
            if channels is None or self._groups == 1 or self.depthwise:
                continue
            if len(channels.segments) > 1:
                problems.append(f"{name} are put together of {len(channels.segments)} parts, and there are groups")
            sizes = [size * unit for width, unit in channels.segments for size in width.offered]
            problems += [f"{name} {n} is no multiple of the {self._groups} groups" for n in sizes if n % self._groups]
        if problems:
            raise ElasticError("this convolution cannot be elastic like this:", problems)

    @property
    def in_channels(self) -> int:
        """Number of input channels in use; all, where the input decides."""
        return self._count(self.IN) if self.inputs is None else self.inputs.size()

    @property
    def out_channels(self) -> int:
        """Number of output channels in use; all, where the input decides."""
        return self._count(self.OUT) if self.outputs is None else self.outputs.size()

    def _count(self, dim: int) -> int:
        """Return the largest layer's number of channels along a dimension of its weight."""
        return self.weight.size(dim) * (self._groups if dim == 1 else 1)

    @property
    def kernel_size(self) -> Pair:
        """The kernel in use. The choice of the same name is a child: see :attr:`options` and :meth:`set_config`."""
        choice = self._modules.get("kernel_size")
        if isinstance(choice, ValueChoice):
            return int(choice.value), int(choice.value)
        return cast(Pair, tuple(self.weight.shape[2:]))

    @property
    def padding(self) -> Pair | str:
        """The padding of the kernel in use."""
        return self._padding(self.kernel_size[0])

    @property
    def groups(self) -> int:
        """Number of groups in use."""
        return self.in_channels if self.depthwise else self._groups

    def axes(self) -> Iterator[Axis]:
        # With groups, dimension 1 of the weight is that of a single group.
        if self.outputs is not None:
            if self.OUT == 0 or self.depthwise or self._groups == 1:
                yield Axis("weight", 0 if self.depthwise else self.OUT, self.outputs)
            if self.bias is not None:
                yield Axis("bias", 0, self.outputs)
        if self.inputs is not None and not self.depthwise and (self.IN == 0 or self._groups == 1):
            yield Axis("weight", self.IN, self.inputs, reads=True)

    def _slices(self, n: int, plan: Plan | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        inputs = [(0, n)] if self.inputs is None else self.inputs.spans(plan)
        weight, bias = self.weight, self.bias
        if self.depthwise:
            outputs, rows, columns = inputs, inputs, [(0, 1)]
        else:
            outputs = [(0, self._count(self.OUT))] if self.outputs is None else self.outputs.spans(plan)
            rows, columns = (outputs, inputs) if self.OUT == 0 else (inputs, outputs)
            columns = columns if self._groups == 1 else [(0, columns[0][1] // self._groups)]
        size = self._kernels[cast(ValueChoice, self._modules["kernel_size"]).index_in(plan)] if self._kernels else 0
        if self._transforms and size not in (0, weight.size(-1)):
            weight = transform_filters(self, rows, columns, self._kernels, size)
        else:
            weight = take_block(weight, rows, columns)
            weight = crop_kernel(weight, size) if 0 < size < weight.size(-1) else weight
        return weight, None if bias is None else take(bias, 0, outputs)

    def _padding(self, size: int) -> Pair | str:
        if not self._kernels or isinstance(self._own_padding, str):
            return self._own_padding
        top, left = self._own_padding
        change = size - self._own_kernel
        return top + self.dilation[0] * change // 2, left + self.dilation[1] * change // 2

    def _extracted(self, extraction: Extraction) -> nn.Module:
        weight, bias = self._slices(self._count(self.IN), extraction.plan)
        groups = weight.shape[0] if self.depthwise else self._groups
        return fill(self._plain(weight, groups), {"weight": weight, "bias": bias}, self)

    def _plain(self, weight: torch.Tensor, groups: int, **more: object) -> nn.Module:
        """Return a plain layer of the weight's shape, without weights."""
        sizes = [weight.size(dim) * (groups if dim == 1 else 1) for dim in (self.IN, self.OUT)]
        return self.PLAIN(
            *sizes,
            tuple(weight.shape[2:]),
            stride=self.stride,
            padding=self._padding(weight.size(-1)),
            dilation=self.dilation,
            groups=groups,
            bias=self.bias is not None,
            padding_mode=self.padding_mode,
            device="meta",
            **more,
        )

    def extra_repr(self) -> str:
        kind = ", depthwise" if self.depthwise else f", groups={self._groups}" if self._groups > 1 else ""
        return f"{tuple(self.weight.shape)}, stride={self.stride}, padding={self._own_padding}{kind}"


def _check_kernel(conv: Convolution, sizes: Sizes) -> None:
    if sizes is None:
        return
    height, width = conv.kernel_size
    if height != width or height % 2 == 0:
        size = f"{height} x {width}"
        raise ElasticError(f"the kernel is {size}, wanted a square and odd one: leave kernel_size out here.")
    if conv.padding == "valid":
        raise ElasticError("the padding is 'valid', so that kernels of other sizes would change the output's size.")
    if isinstance(conv.padding, str):
        return
    least = min(p + d * (sizes[0] - height) // 2 for p, d in zip(conv.padding, conv.dilation, strict=True))
    if least < 0:
        raise ElasticError(
            f"padding {conv.padding} is too small to crop the {height} x {width} kernel to {sizes[0]} and keep the "
            f"output's size: wanted at least {tuple(d * (height - sizes[0]) // 2 for d in conv.dilation)}."
        )
