"""Put a sub-network's layers into the model that the supernet was made of, or its weights into the supernet."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.torch_private import get_buffers, get_children, get_parameters
from mutators.elastic.layers.convolution import ElasticConvolution
from mutators.elastic.layers.kernel import grow_kernel, matrix_name
from mutators.elastic.model import Deep

_FAST_PATH = {nn.TransformerEncoderLayer: "activation_relu_or_gelu", nn.TransformerEncoder: "use_nested_tensor"}
"""The attributes that let torch's encoders compute everything in one call in evaluation."""


def graft_layers(origin: nn.Module, plain: nn.Module, path: str = "") -> nn.Module:
    """Put the layers of the extracted network into ``origin``, in place. Returns: it, or the layer that replaces it.

    Raises:
        ElasticError: ``origin`` has no place for a layer.
    """
    if isinstance(origin, nn.MultiheadAttention):
        return plain  # its attributes repeat the sizes of its weights
    places, children = get_children(origin), get_children(plain)
    missing = [name for name, child in children.items() if child is not None and name not in places]
    if missing:
        where = path or "the origin model itself"
        raise ElasticError(
            f"origin_model is not what this supernet was made of: {where} has no {missing}, only {list(places)}."
        )
    get_parameters(origin).update(get_parameters(plain))
    get_buffers(origin).update(get_buffers(plain))
    for name, child in list(places.items()):
        ours = children.get(name)
        if ours is None and name not in children:
            del places[name]  # a block beyond the depth
        elif ours is None or child is None or not get_children(child) or type(child) is not type(ours):
            places[name] = ours
        else:
            places[name] = graft_layers(child, ours, f"{path}.{name}" if path else name)
    for kind, switch in _FAST_PATH.items():
        if isinstance(origin, kind):  # off in the supernet, which pads otherwise
            setattr(origin, switch, getattr(plain, switch))
    return origin


@torch.no_grad()
def take_weights(supernet: nn.Module, origin: nn.Module) -> nn.Module:
    """Copy the origin model's weights into a supernet, in place; kernels become crops again. Returns: the supernet.

    Raises:
        ElasticError: a tensor is missing in the origin model, or has another shape; all of them are named.
    """
    inner = supernet.net if isinstance(supernet, Deep) else supernet
    ours, theirs = inner.state_dict(keep_vars=True), origin.state_dict()
    matrices = {
        f"{path}.{matrix_name(larger, smaller)}": torch.eye(smaller**2)
        for path, layer in inner.named_modules()
        if isinstance(layer, ElasticConvolution)
        for smaller, larger in pairwise(layer._kernels)
    }
    theirs |= {name: matrix for name, matrix in matrices.items() if name in ours}
    problems = [f"no {name!r} in origin_model" for name in ours if name not in theirs]
    for name, tensor in ours.items():
        if name not in theirs:
            continue
        given = theirs[name]
        if given.dim() == 4 and given.shape[2:] != tensor.shape[2:] and given.shape[-1] < tensor.shape[-1]:
            given = grow_kernel(given, tensor.shape[-1])
        if given.shape != tensor.shape:
            problems.append(f"{name!r} is {tuple(theirs[name].shape)} there and {tuple(tensor.shape)} in the supernet")
        elif not problems:
            tensor.copy_(given)
    if problems:
        raise ElasticError("origin_model is not what this supernet was made of:", problems)
    return supernet
