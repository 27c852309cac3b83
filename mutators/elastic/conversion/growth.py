"""Grow plain layers by channels that are silent, since nothing reads them yet."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from mutators.choices.torch_private import copy_layer, get_buffers, get_parameters
from mutators.elastic.layers.width import Channels

Place = tuple[torch.Tensor, int]
"""The positions of the old features among the new ones, and the new number of features."""


def find_place(channels: Channels | None, before: Mapping[int, int]) -> Place:
    """Return where the old features go in a new layout; ``before`` has the former sizes of widths that have grown."""
    found: list[torch.Tensor] = []
    start = 0
    for width, unit in () if channels is None else channels.segments:
        found.append(torch.arange(start, start + before.get(id(width), width.full) * unit))
        start += width.full * unit
    return torch.cat(found) if found else torch.arange(0), start


def grow_layer(layer: nn.Module, ins: Place, outs: Place, generator: torch.Generator) -> nn.Module:
    """Return a layer of the new sizes that computes what ``layer`` does, whatever the new inputs are.

    Any layer but attention and layer norm, where new channels would change the result. ``layer`` stays as it is.
    """
    new = copy_layer(layer)
    norm = not isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding))
    axes: tuple[Place | None, ...] = (outs,) if norm else (outs, ins)
    sizes = dict.fromkeys(("in_channels", "in_features"), ins[1])
    sizes |= dict.fromkeys(("out_channels", "out_features", "embedding_dim", "num_channels", "num_features"), outs[1])
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and layer.groups > 1:
        axes, sizes["groups"] = (outs,), outs[1]  # depthwise: dense ones with groups do not grow
    elif isinstance(layer, nn.ConvTranspose2d):
        axes = (ins, outs)
    elif isinstance(layer, nn.Embedding):
        axes = (None, outs)
    elif isinstance(layer, nn.GroupNorm):
        sizes["num_groups"] = layer.num_groups * outs[1] // layer.num_channels
    new.__dict__.update({name: size for name, size in sizes.items() if name in vars(layer)})
    for name, tensor in [*get_parameters(layer).items(), *get_buffers(layer).items()]:
        if tensor is None or tensor.ndim == 0:
            continue
        if name == "weight" and not norm:
            larger = _draw(tensor, axes, generator)
            if not isinstance(layer, nn.Embedding) and len(axes) == 2:
                _silence(larger, axes, ins)
        else:
            larger = _fill(tensor, (outs,), float(norm and name in ("weight", "running_var")))
        larger = _copy_into(tensor, larger, axes if name == "weight" else (outs,))
        keep_as_is = name in get_buffers(new)
        setattr(new, name, larger if keep_as_is else nn.Parameter(larger, tensor.requires_grad))
    return new


def _fill(tensor: torch.Tensor, axes: tuple[Place | None, ...], value: float) -> torch.Tensor:
    shape = [n if axis is None else axis[1] for n, axis in zip(tensor.shape, axes, strict=False)]
    return torch.full((*shape, *tensor.shape[len(axes) :]), value, dtype=tensor.dtype, device=tensor.device)


def _draw(tensor: torch.Tensor, axes: tuple[Place | None, ...], generator: torch.Generator) -> torch.Tensor:
    """Return weights uniform in +-1 / sqrt(fan in), as torch initialises convolutions and linear layers."""
    like = _fill(tensor, axes, 0.0)
    bound = 1 / math.sqrt(max(1, like[0].numel()))
    return ((torch.rand(like.shape, generator=generator) * 2 - 1) * bound).to(like)


def _silence(weight: torch.Tensor, axes: tuple[Place | None, ...], ins: Place) -> None:
    """Set the weights that read new inputs to zero."""
    old = set(ins[0].tolist())
    new = torch.tensor([i for i in range(ins[1]) if i not in old], dtype=torch.long, device=weight.device)
    weight[(slice(None),) * next(i for i, axis in enumerate(axes) if axis is ins) + (new,)] = 0


@torch.no_grad()
def _copy_into(old: torch.Tensor, new: torch.Tensor, axes: tuple[Place | None, ...]) -> torch.Tensor:
    index = [torch.arange(n) if axis is None else axis[0] for n, axis in zip(old.shape, axes, strict=False)]
    new[torch.meshgrid(*(i.to(new.device) for i in index), indexing="ij")] = old.detach()
    return new
