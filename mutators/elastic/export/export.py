"""Export a sub-network of a supernet as a plain network. After PaddleSlim's ``OFA.export``.

Differs: batch norms are cut with their convolutions, kernels are folded with their matrices, blocks beyond the depth
are gone; the origin model is copied, not written into; shapes are needed only for comparing with the supernet.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from mutators.choices.errors import ElasticError, OneShotError
from mutators.choices.extracting import extract
from mutators.choices.switch import applied, kept_modes
from mutators.choices.torch_private import get_buffers, get_children, get_parameters
from mutators.elastic.layers.convolution import ElasticConvolution
from mutators.elastic.layers.kernel import grow_kernel, matrix_name
from mutators.elastic.model import AtDepth, Deep, Supernet
from mutators.inputs import Inputs, first_outputs
from mutators.oneshot.batchnorm import kept_statistics, recalibrate_bn
from mutators.oneshot.rng import kept_rng
from search_spaces.schema import Choices

Shapes = Sequence[int] | Sequence[Sequence[int] | Mapping[str, Sequence[int]]]
Dtypes = Sequence[str | torch.dtype]
TOLERANCE = 1e-4
_FAST_PATH = {nn.TransformerEncoderLayer: "activation_relu_or_gelu", nn.TransformerEncoder: "use_nested_tensor"}
"""The attributes that let torch's encoders compute everything in one call in evaluation."""


def export_subnet(
    supernet: Supernet,
    choices: Choices,
    origin_model: nn.Module | None = None,
    input_shapes: Shapes | None = None,
    input_dtypes: Dtypes | None = None,
    load_weights_from_supernet: bool = True,
    calibration: Iterable[Any] | None = None,
    calibration_batches: int | None = None,
) -> nn.Module:
    """Return a sub-network as an ordinary network in evaluation mode, with weights of its own.

    Args:
        supernet: stays as it is.
        choices: of the sub-network.
        origin_model: what the model was made of: a copy of it takes over the sub-network's layers, so that the result
            is of its class.
        input_shapes: of an input, or one for each, with or without the batch; for an input that is a dict of tensors a
            dict of shapes. Then the sub-network's outputs are compared with the supernet's, before any calibration.
        input_dtypes: of these inputs, such as "int64"; None: float32.
        load_weights_from_supernet: False: the weights are ``origin_model``'s own, cut to size.
        calibration: training batches to recompute the statistics of batch norms on; None: as they are in the supernet,
            a mixture of sub-networks.
        calibration_batches: how many; None: all.

    Returns: without an elastic class or an unused channel. Names of parameters are the model's own; only where the
        model's forward takes a depth, the network is the child ``net`` of one that gives it. Blocks beyond a depth are
        gone; where forward takes the depth, identities replace them if ``input_shapes`` show which ones run.

    Raises:
        ElasticError: ``origin_model`` is not what it was made of, shapes do not fit, outputs differ by more than
            1e-4 * max(1, logit), or the calibration has too few batches.
    """
    if not load_weights_from_supernet and origin_model is None:
        raise ElasticError("load_weights_from_supernet=False takes the origin model's weights: give origin_model.")
    if input_dtypes is not None and input_shapes is None:
        raise ElasticError("input_dtypes are of the inputs that input_shapes describe: give these.")
    inputs = None if input_shapes is None else draw_inputs(input_shapes, input_dtypes)
    with kept_rng():
        source = supernet.runnable
        if not load_weights_from_supernet and origin_model is not None:
            source = take_weights(copy.deepcopy(source), origin_model)
        network = extract(source, choices)
        if origin_model is not None:
            plain = network.net if isinstance(network, AtDepth) else network
            merged = graft_layers(copy.deepcopy(origin_model), plain)
            network = AtDepth(merged, network.depth) if isinstance(network, AtDepth) else merged
        network.eval()
        if inputs is not None:
            if isinstance(network, AtDepth) and supernet.depth is not None:
                _drop_beyond(network, max(supernet.depth.values), inputs)
            _compare(source, choices, network, inputs)
        if calibration is not None:
            try:
                recalibrate_bn(network, calibration, calibration_batches)
            except OneShotError as error:
                raise ElasticError(f"the exported network cannot be calibrated: {error}") from error
    return network


def draw_inputs(shapes: Shapes, dtypes: Dtypes | None = None) -> list[Inputs]:
    """Return random inputs of these shapes to try: with a batch of 1 put before each, and as they are.

    Integers are 0 or 1. Raises an ElasticError if these are no shapes or dtypes, or not as many of each.
    """
    single = bool(shapes) and all(isinstance(size, int) for size in shapes)
    listed: list[Any] = [shapes] if single else list(shapes)
    if not listed or not all(map(_is_entry, listed)):
        wanted = "wanted a shape such as (3, 32, 32), or for each input one, or a dict of them by name"
        raise ElasticError(f"input_shapes are {shapes!r}, {wanted}.")
    found = [_dtype(dtype) for dtype in dtypes or ["float32"] * len(listed)]
    if len(found) != len(listed):
        raise ElasticError(f"there are {len(listed)} input_shapes and {len(found)} input_dtypes, wanted as many.")
    generator = torch.Generator().manual_seed(0)

    def draw(entry: Any, dtype: torch.dtype, batch: tuple[int, ...]) -> Any:
        if isinstance(entry, Mapping):
            return {name: draw(shape, dtype, batch) for name, shape in entry.items()}
        shape, floating = (*batch, *entry), dtype.is_floating_point
        numbers = torch.randn(shape, generator=generator) if floating else torch.randint(2, shape, generator=generator)
        return numbers.to(dtype)

    return [tuple(draw(e, dtype, batch) for e, dtype in zip(listed, found, strict=True)) for batch in ((1,), ())]


def _is_entry(entry: Any) -> bool:
    return all(map(_is_shape, entry.values())) and len(entry) > 0 if isinstance(entry, Mapping) else _is_shape(entry)


def _is_shape(shape: Any) -> bool:
    sized = isinstance(shape, Sequence) and not isinstance(shape, str) and len(shape) > 0
    return sized and all(type(size) is int and size > 0 for size in shape)


def _dtype(dtype: Any) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype):
        raise ElasticError(f"an input dtype is {dtype!r}, wanted a name such as 'float32' or 'int64'.")
    return found


def _compare(source: nn.Module, choices: Choices, network: nn.Module, candidates: Sequence[Inputs]) -> None:
    """Raise an ElasticError where the exported network's outputs are not the supernet's."""
    with applied(source, choices), kept_modes(source), kept_statistics(source):
        source.eval()
        inputs, wanted = first_outputs(source, candidates, ElasticError)
    _, got = first_outputs(network, [inputs], ElasticError)
    for ours, theirs in zip(got, wanted, strict=True):
        allowed = TOLERANCE * max(1.0, float(theirs.abs().max()) if theirs.numel() else 0.0)
        difference = float((ours - theirs).abs().max()) if ours.shape == theirs.shape and ours.numel() else 0.0
        if ours.shape != theirs.shape or not difference <= allowed:
            raise ElasticError(
                f"the exported network differs from the supernet: outputs of {tuple(ours.shape)} and "
                f"{tuple(theirs.shape)}, by up to {difference:.3g}, wanted at most {allowed:.3g}. "
                "Does its forward depend on more than its layers?"
            )


def _drop_beyond(network: AtDepth, deepest: float, candidates: Sequence[Inputs]) -> None:
    """Replace modules that run at the greatest depth and not at this one by identities, in place.

    Modules that never run in evaluation stay, such as exits for training. Lists keep their length, which forward may
    use.
    """
    inputs, _ = first_outputs(network, candidates, ElasticError)
    beyond = _find_called(AtDepth(network.net, deepest), inputs) - _find_called(network, inputs)
    for module in list(network.modules()):
        for name, child in get_children(module).items():
            if child in beyond:
                get_children(module)[name] = nn.Identity()


def _find_called(network: nn.Module, inputs: Inputs) -> set[nn.Module]:
    """Return the modules that a forward calls."""
    ran: set[nn.Module] = set()
    with ExitStack() as hooks:
        for module in network.modules():
            hooks.enter_context(module.register_forward_hook(lambda module, *_: ran.add(module)))
        first_outputs(network, [inputs], ElasticError)
    return ran


def graft_layers(origin: nn.Module, plain: nn.Module, path: str = "") -> nn.Module:
    """Put the layers of the extracted network into ``origin``, in place. Returns: it, or the layer that replaces it."""
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
    """Copy the origin model's weights into a supernet, in place; kernels become crops again. Returns: the supernet."""
    inner = supernet.net if isinstance(supernet, Deep) else supernet
    ours, theirs = inner.state_dict(keep_vars=True), origin.state_dict()
    for path, layer in inner.named_modules():
        for smaller, larger in pairwise(layer._kernels) if isinstance(layer, ElasticConvolution) else ():
            theirs[f"{path}.{matrix_name(larger, smaller)}"] = torch.eye(smaller**2)
    problems = [f"no {name!r} in origin_model" for name in ours if name not in theirs]
    for name, tensor in ours.items():
        given = theirs.get(name, tensor)
        if given.dim() == 4 and given.shape[2:] != tensor.shape[2:] and given.shape[-1] < tensor.shape[-1]:
            given = grow_kernel(given, tensor.shape[-1])
        if given.shape != tensor.shape:
            problems.append(f"{name!r} is {tuple(theirs[name].shape)} there and {tuple(tensor.shape)} in the supernet")
        elif not problems:
            tensor.copy_(given)
    if problems:
        raise ElasticError("origin_model is not what this supernet was made of:", problems)
    return supernet
