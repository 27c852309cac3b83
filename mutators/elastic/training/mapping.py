"""Make layers from the channels of a student's layer to those of a teacher's."""

from __future__ import annotations

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.torch_private import ConvNd, NormBase, get_parameters
from mutators.elastic.layers.attention import ElasticMultiheadAttention
from mutators.elastic.layers.conv import ElasticConv2d
from mutators.elastic.layers.convolution import ElasticConvolution
from mutators.elastic.layers.embedding import ElasticEmbedding
from mutators.elastic.layers.linear import ElasticLinear
from mutators.elastic.layers.norm import ElasticLayerNorm, ElasticNorm
from mutators.elastic.layers.width import Channels

_COUNTS = ("full", "out_channels", "out_features", "num_features", "num_channels", "embedding_dim")
_FIRST = (ElasticConvolution, ConvNd, NormBase)
"""Layers whose channels are dimension 1."""
_LAST = (
    *(ElasticLinear, ElasticEmbedding, ElasticLayerNorm, ElasticMultiheadAttention),
    *(nn.Linear, nn.Embedding, nn.LayerNorm, nn.MultiheadAttention),
)
"""Layers whose features come last."""


def make_mapping(op: str, student: nn.Module, teacher: nn.Module) -> nn.Module:
    """Return a new layer from the student's channels, however many are in use, to the teacher's.

    Of a block, the last layer with known channels is taken. The mapping knows the layout of its input, so that it is
    sorted with the student; but it is marked ``aside``: its weights do not count for the importance of channels.

    Raises:
        ElasticError: the channels are not known, or ``op`` is not for such layers.
    """
    source, target = _source(student), _source(teacher)
    n_in, n_out = (None if layer is None else _largest_size(layer) for layer in (source, target))
    if source is None or n_in is None or n_out is None:
        wrong = type(student if n_in is None else teacher).__name__
        raise ElasticError(f"the channels of a {wrong} are not known: map convolutions, linear layers or norms.")
    if op == "linear" and isinstance(student, _FIRST):
        raise ElasticError(f"mapping_op 'linear' is for features that come last, not for a {type(student).__name__}.")
    if op != "linear" and isinstance(student, _LAST):
        raise ElasticError(f"mapping_op {op!r} is for maps (N, C, H, W), not for a {type(student).__name__}.")
    inputs = _channels(source, n_in)
    made = ElasticLinear(inputs, n_out) if op == "linear" else ElasticConv2d(inputs, n_out, 1)
    made.aside = True  # type: ignore[assignment]
    return made


def apply_mapping(layer: nn.Module, output: torch.Tensor, name: str) -> torch.Tensor:
    """Return a student's output mapped. Raises an ElasticError if its shape does not fit the mapping."""
    over_pixels = isinstance(layer, ElasticConv2d)
    inputs = layer.inputs if isinstance(layer, (ElasticConv2d, ElasticLinear)) else None
    size = output.shape[1 if over_pixels else -1] if output.dim() > 1 else None
    if (over_pixels and output.dim() != 4) or (isinstance(inputs, Channels) and size != inputs.size()):
        op, wanted = ("conv", "(N, C, H, W)") if over_pixels else ("linear", "(..., C)")
        known = f" with C = {inputs.size()}" if isinstance(inputs, Channels) else ""
        raise ElasticError(
            f"{name!r} gives {tuple(output.shape)}, but mapping_op {op!r} wants {wanted}{known}: "
            "take the other mapping_op, or map the layer itself where this is a block."
        )
    found: torch.Tensor = layer(output)
    return found


def _source(layer: nn.Module) -> nn.Module | None:
    """Return the layer of known channels that gives the output: the last one in ``layer``, or itself."""
    inner = [_source(child) for child in layer.children()]
    own = None if _largest_size(layer) is None else layer
    return next((found for found in reversed(inner) if found is not None), own)


def _largest_size(layer: nn.Module) -> int | None:
    """Return the largest number of channels or features that a layer gives; None: it is unknown."""
    layout = _layout(layer)
    if layout is not None:
        return layout.full
    for name in _COUNTS:
        found = getattr(layer, name, None)
        if isinstance(found, int):
            return found
    weight = get_parameters(layer).get("weight")
    if weight is None or weight.numel() == 1:  # one number for all channels, as a PReLU has it, tells no size
        return None
    return int(weight.shape[1 if isinstance(layer, ElasticEmbedding) else 0])


def _layout(layer: nn.Module) -> Channels | None:
    """Return the layout of a layer's output; None: it has none."""
    found = (getattr(layer, name, None) for name in ("outputs", "channels", "features"))
    return next((layout for layout in found if isinstance(layout, Channels)), None)


def _channels(layer: nn.Module, most: int) -> Channels | int:
    """Return the layout of a layer's output, or its largest size where the output is as wide as the input."""
    layout = _layout(layer)
    if layout is not None:
        return layout
    return most if isinstance(layer, (ElasticNorm, ElasticConvolution)) else Channels.of(most)
