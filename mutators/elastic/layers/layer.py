"""The base of elastic layers: their choices, setting them, and extracting the plain layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.torch_private import DERIVED_ATTRIBUTES, get_buffers, get_parameters
from mutators.choices.value_choice import ValueChoice
from mutators.choices.visitor import Extractable, Extraction, Plan
from mutators.elastic.layers.parts import Tensors, active_parts
from mutators.elastic.layers.width import Channels, Width

Size = int | Sequence[int] | Width | Channels
"""A number of channels: fixed, one of several, or a width that other layers share."""


class Axis(NamedTuple):
    """A dimension of a layer's parameter or buffer ``name``, and its layout.

    Attributes:
        reads: whether it is a dimension of the layer's input; the others are of its output.
    """

    name: str
    dim: int
    channels: Channels
    reads: bool = False


class Elastic(nn.Module, Extractable):
    """A layer that runs with a part of its weights. Subclasses write ``forward`` and :meth:`_extracted`.

    Attributes of torch's own layers, such as ``out_channels``, have the values of the plain layer in use. They are
    properties, for the user's code; an elastic layer's forward reads the layouts themselves, which is faster.
    """

    _others: tuple[str, ...] = ()
    _deciding: tuple[ValueChoice, ...] | None = None

    def extracted(self, extraction: Extraction) -> nn.Module:
        """Return the plain layer, with its own copies of the weights in use."""
        plain = extraction.put(self, self._extracted(extraction))
        plain.training = self.training
        for name in self._others:
            plain.__dict__.setdefault(name, extraction.copy(self.__dict__[name]))
        return plain

    def axes(self) -> Iterator[Axis]:
        """Yield the dimensions of tensors that choices cut; those without a known layout are left out."""
        return iter(())

    def _extracted(self, extraction: Extraction) -> nn.Module:
        """Return the plain layer, without what else was set on this one."""
        raise NotImplementedError

    def _slices(self, n: int, plan: Plan | None) -> Tensors:
        """Return this layer's tensors under a plan, for an input of ``n`` channels."""
        raise NotImplementedError

    def _running(self, n: int) -> Tensors:
        """Return what :meth:`_slices` returns now; in a training it is remembered, see :mod:`.parts`."""
        parts = active_parts()
        if parts is None:
            return self._slices(n, None)
        if self._deciding is None:
            self._deciding = self.find_choices()
        name = (self, n, *[choice.index for choice in self._deciding])
        return parts.recall(name, lambda: self._slices(n, None))

    def find_layouts(self) -> list[Channels]:
        """Return the layouts that the layer has."""
        return [value for value in vars(self).values() if isinstance(value, Channels)]

    def find_choices(self) -> tuple[ValueChoice, ...]:
        """Return the choices that decide what runs: of this layer's own, and of its layouts, each once."""
        own = (choice for _, choice in self._choices())
        layouts = (choice for channels in self.find_layouts() for choice in channels.choices)
        return tuple({id(choice): choice for choice in (*own, *layouts)}.values())

    @property
    def options(self) -> dict[str, tuple[float, ...]]:
        """The options of this layer's own choices, by name."""
        return {name: choice.values for name, choice in self._choices()}

    def set_config(self, *nameless: object, **values: float) -> None:
        """Set this layer's own choices, such as ``kernel_size=5``; all are checked before any is set.

        Raises:
            ElasticError: a name or a value is not on offer; all of them are named, with the options.
        """
        choices = dict(self._choices())
        if nameless:
            raise ElasticError(f"set_config got {nameless[0]!r}, wanted values by name, of {sorted(choices)}.")
        problems = [f"{name!r} is unknown, wanted some of {sorted(choices)}" for name in values if name not in choices]
        known = [(name, choices[name].problem(value)) for name, value in values.items() if name in choices]
        problems += [f"{name}: {problem}" for name, problem in known if problem]
        if problems:
            raise ElasticError(f"this {type(self).__name__} cannot be set like this:", problems)
        for name, value in values.items():
            choices[name].set(value)

    def _choices(self) -> Iterator[tuple[str, ValueChoice]]:
        return ((name, child) for name, child in self._modules.items() if isinstance(child, ValueChoice))

    def _follow(self, plain: nn.Module) -> None:
        """Take over a plain layer's mode, and attributes that were added to it: a model's forward may read them."""
        known = DERIVED_ATTRIBUTES | self.__dict__.keys()
        others = {name: x for name, x in vars(plain).items() if name not in known and not hasattr(type(self), name)}
        self.__dict__.update(others, _others=tuple(others))
        self.train(plain.training)

    def _own(self, name: str, size: Size | None) -> Channels | None:
        """Return a size as a layout; several numbers become a choice of this layer, under ``name``."""
        if size is None or isinstance(size, Channels):
            return size
        if isinstance(size, (int, Width)):
            return Channels.of(size)
        choice = ValueChoice(tuple(size))
        self.add_module(name, choice)
        return Channels.of(Width.of(choice, [int(value) for value in choice.values]))


def full_size(size: Size) -> int:
    """Return the largest number of channels of a size."""
    if isinstance(size, int):
        return size
    return size.full if isinstance(size, (Width, Channels)) else max(size)


def check_size(name: str, size: Size | None, plain: int) -> list[str]:
    """Check that the largest number of a size is the plain layer's."""
    if size is None or full_size(size) == plain:
        return []
    return [f"{name}: {full_size(size)} at most, but the layer has {plain}"]


def fill(plain: nn.Module, tensors: dict[str, torch.Tensor | None], like: nn.Module) -> nn.Module:
    """Copy weights into a plain layer: parameters where ``like`` has parameters, with their ``requires_grad``."""
    for name, tensor in tensors.items():
        copied = None if tensor is None else tensor.detach().clone(memory_format=torch.contiguous_format)
        original = get_parameters(like).get(name)
        if copied is not None and original is not None:
            get_parameters(plain)[name] = nn.Parameter(copied, original.requires_grad)
        elif name in get_buffers(plain):
            get_buffers(plain)[name] = copied
    return plain
