"""Export a sub-network of a supernet as a plain network. After PaddleSlim's ``OFA.export``.

Differs: batch norms are cut with their convolutions, kernels are folded with their matrices, blocks beyond the depth
are gone; the origin model is copied, not written into; shapes are needed only for comparing with the supernet.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from mutators.choices.errors import ElasticError, OneShotError
from mutators.choices.extracting import extract
from mutators.choices.switch import applied, kept_modes
from mutators.choices.torch_private import get_children, tree_leaves
from mutators.elastic.export.grafting import graft_layers, take_weights
from mutators.elastic.model import AtDepth, Supernet
from mutators.inputs import Inputs, device_of, run_first
from mutators.oneshot.batchnorm import kept_statistics, recalibrate_bn
from mutators.oneshot.rng import kept_rng
from search_spaces.schema import Choices

Shapes = Sequence[int] | Sequence[Sequence[int]]
Dtypes = Sequence[str | torch.dtype]
TOLERANCE = 1e-4


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
        origin_model: what the model was made of: a copy of it takes over the sub-network's layers, so that the
            result is of its class.
        input_shapes: of an input, or one for each; then the sub-network's outputs are compared with the
            supernet's, before any calibration. The batch may be left out.
        input_dtypes: of these inputs, such as "int64"; None: float32.
        load_weights_from_supernet: False: the weights are ``origin_model``'s own, cut to size.
        calibration: training batches to recompute the statistics of batch norms on, which are those of a mixture
            of sub-networks otherwise. None: as they are in the supernet.
        calibration_batches: how many; None: all.

    Returns: without an elastic class or an unused channel. Names of parameters are the model's own; only where
        the model's forward takes a depth, the network is the child ``net`` of one that gives it. Blocks beyond a
        depth are gone. Where the model's forward takes the depth, they stay unless there are ``input_shapes`` to
        see by which run; identities then replace them.

    Raises:
        ElasticError: ``origin_model`` is not what it was made of, shapes
            do not fit, outputs differ by more than 1e-4 * max(1, logit), or the calibration has too few
            batches.
    """
    if not load_weights_from_supernet and origin_model is None:
        raise ElasticError("load_weights_from_supernet=False takes the origin model's weights: give origin_model.")
    if input_dtypes is not None and input_shapes is None:
        raise ElasticError("input_dtypes are of the inputs that input_shapes describe: give these.")
    inputs = None if input_shapes is None else draw_inputs(input_shapes, input_dtypes)
    with kept_rng():
        source = supernet.runnable
        if not load_weights_from_supernet:
            assert origin_model is not None
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

    Args:
        shapes: one, or one for each input.
        dtypes: one for each input, such as "float32" or ``torch.int64``; None: float32. Integers are 0 or 1.

    Raises:
        ElasticError: they are no shapes or dtypes, or not as many of the ones as of the others.
    """
    single = bool(shapes) and all(isinstance(size, int) for size in shapes)
    listed: list[Any] = [shapes] if single else list(shapes)
    if not listed or not all(_is_shape(shape) for shape in listed):
        raise ElasticError(f"input_shapes are {shapes!r}, wanted a shape such as (3, 32, 32), or one for each input.")
    found = [_dtype(dtype) for dtype in dtypes or ["float32"] * len(listed)]
    if len(found) != len(listed):
        raise ElasticError(f"there are {len(listed)} input_shapes and {len(found)} input_dtypes, wanted as many.")
    generator = torch.Generator().manual_seed(0)
    return [
        tuple(_draw((*batch, *shape), dtype, generator) for shape, dtype in zip(listed, found, strict=True))
        for batch in ((1,), ())
    ]


def _is_shape(shape: Any) -> bool:
    sized = isinstance(shape, Sequence) and not isinstance(shape, str) and len(shape) > 0
    return sized and all(type(size) is int and size > 0 for size in shape)


def _dtype(dtype: Any) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype):
        raise ElasticError(f"an input dtype is {dtype!r}, wanted a name such as 'float32' or 'int64'.")
    return found


def _draw(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(2, shape, generator=generator).to(dtype)


def first_outputs(network: nn.Module, candidates: Sequence[Inputs]) -> tuple[Inputs, list[torch.Tensor]]:
    """Return the first inputs that a network takes, and its outputs, flat.

    Raises:
        ElasticError: it takes none of them.
    """
    device = device_of(network)

    def try_once(inputs: Inputs) -> tuple[Inputs, list[torch.Tensor]]:
        moved = tuple(tensor.to(device) for tensor in inputs)
        with torch.no_grad():
            outputs = network(*moved)
        return moved, [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]

    return run_first(network, candidates, try_once, ElasticError)


def _compare(
    source: nn.Module,
    choices: Choices,
    network: nn.Module,
    candidates: Sequence[Inputs],
) -> None:
    """Raise an ElasticError where the exported network's outputs are not the supernet's."""
    with applied(source, choices), kept_modes(source), kept_statistics(source):
        source.eval()
        inputs, wanted = first_outputs(source, candidates)
    _, got = first_outputs(network, [inputs])
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
    inputs, _ = first_outputs(network, candidates)
    beyond = _find_called(AtDepth(network.net, deepest), inputs) - _find_called(network, inputs)
    for module in list(network.modules()):
        for name, child in get_children(module).items():
            if child in beyond:
                get_children(module)[name] = nn.Identity()


def _find_called(network: nn.Module, inputs: Inputs) -> set[nn.Module]:
    """Return the modules that a forward calls."""
    ran: set[nn.Module] = set()
    hooks = [m.register_forward_hook(lambda module, *_: ran.add(module)) for m in network.modules()]
    try:
        first_outputs(network, [inputs])
    finally:
        for hook in hooks:
            hook.remove()
    return ran
