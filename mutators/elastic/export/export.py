"""From a supernet to the plain network of a sub-network. After PaddleSlim's ``OFA.export``.

Differs: batch norms are cut with their convolutions, kernels are folded with their matrices, blocks beyond the depth
are gone; the origin model is copied, not written into; shapes are needed only for comparing with the supernet.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from mutators.choices.errors import OneShotError
from mutators.choices.extracting import extract
from mutators.choices.modes import kept_modes
from mutators.choices.switch import applied
from mutators.elastic.export.grafting import grafted, with_weights_of
from mutators.elastic.given_depth import AtDepth, runnable
from mutators.elastic.layers.errors import ElasticError
from mutators.oneshot.batchnorm import kept_statistics, recalibrate_bn
from mutators.oneshot.rng import kept_rng
from search_spaces.schema import Choices

if TYPE_CHECKING:
    from mutators.elastic.training.ofa import OFA

Config = Mapping[str, Any]
Shapes = Sequence[int] | Sequence[Sequence[int]]
Dtypes = Sequence[str | torch.dtype]
TOLERANCE = 1e-4


def export(
    self: OFA,
    config: Any = None,
    origin_model: nn.Module | None = None,
    input_shapes: Shapes | None = None,
    input_dtypes: Dtypes | None = None,
    load_weights_from_supernet: bool = True,
    calibration: Iterable[Any] | None = None,
    calibration_batches: int | None = None,
) -> nn.Module:
    """Return a sub-network as an ordinary network in evaluation mode, with weights of its own.

    Args:
        config: in any notation, or what :meth:`search` returned; None: what is set now.
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
        depth are gone; only where forward looks after it, they stay unless there are ``input_shapes`` to see by
        which run, and identities then stand in their places.

    Raises:
        ElasticError: the configuration is not of this model, ``origin_model`` is not what it was made of, shapes
            do not fit, outputs differ by more than 1e-4 * max(1, logit), or the calibration has too few
            batches. The supernet stays as it is in any case.

    Differs: PaddleSlim wants shapes always, writes into ``origin_model``, and leaves batch norms uncut.
    """
    choices = chosen(self, config)
    if not load_weights_from_supernet and origin_model is None:
        raise ElasticError("load_weights_from_supernet=False takes the origin model's weights: give origin_model.")
    if input_dtypes is not None and input_shapes is None:
        raise ElasticError("input_dtypes are of the inputs that input_shapes describe: give these.")
    inputs = None if input_shapes is None else drawn_inputs(input_shapes, input_dtypes)
    with kept_rng():
        source = runnable(self)
        if not load_weights_from_supernet:
            assert origin_model is not None
            source = with_weights_of(copy.deepcopy(source), origin_model)
        network = extract(source, choices)
        if origin_model is not None:
            plain = network.net if isinstance(network, AtDepth) else network
            merged = grafted(copy.deepcopy(origin_model), plain)
            network = AtDepth(merged, network.depth) if isinstance(network, AtDepth) else merged
        network.eval()
        if inputs is not None:
            if isinstance(network, AtDepth) and self.depth_choice is not None:
                _drop_beyond(network, max(self.depth_choice.values), inputs)
            _compare(source, choices, network, inputs)
        if calibration is not None:
            _calibrate(network, calibration, calibration_batches)
    return network


def chosen(ofa: OFA, config: Any) -> Choices:
    """The choices of a configuration in any notation, of what a search returned, or (None) of what is set.

    Raises:
        ElasticError: it does not fit the model.
    """
    if config is None:
        return ofa.current_config
    return ofa.choices_of(getattr(config, "choices", config))


def _calibrate(network: nn.Module, loader: Iterable[Any], batches: int | None) -> None:
    try:
        recalibrate_bn(network, loader, batches)
    except OneShotError as error:
        raise ElasticError(f"the exported network cannot be calibrated: {error}") from error


def drawn_inputs(shapes: Shapes, dtypes: Dtypes | None = None) -> list[tuple[torch.Tensor, ...]]:
    """Random inputs of these shapes to try: with a batch of 1 put before each, and as they are.

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
        tuple(_drawn((*batch, *shape), dtype, generator) for shape, dtype in zip(listed, found, strict=True))
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


def _drawn(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(2, shape, generator=generator).to(dtype)


def run_first(
    network: nn.Module, candidates: Sequence[tuple[torch.Tensor, ...]]
) -> tuple[tuple[torch.Tensor, ...], list[torch.Tensor]]:
    """The first inputs that a network takes, and its outputs, flat.

    Raises:
        ElasticError: it takes none of them.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    failed: Exception | None = None
    for inputs in candidates:
        moved = tuple(tensor.to(device) for tensor in inputs)
        try:
            with torch.no_grad():
                outputs = network(*moved)
        except Exception as error:  # whatever the author's forward raises
            failed = failed or error
            continue
        return moved, [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
    tried = " or ".join(" and ".join("x".join(map(str, t.shape)) for t in inputs) for inputs in candidates)
    reason = str(failed).strip().split("\n")[0]
    raise ElasticError(f"{type(network).__name__} does not run on inputs of {tried}: {reason}") from failed


def _compare(
    source: nn.Module,
    choices: Choices,
    network: nn.Module,
    candidates: Sequence[tuple[torch.Tensor, ...]],
) -> None:
    """Raise an ElasticError where the exported network's outputs are not the supernet's."""
    with applied(source, choices), kept_modes(source), kept_statistics(source):
        source.eval()
        inputs, wanted = run_first(source, candidates)
    _, got = run_first(network, [inputs])
    for ours, theirs in zip(got, wanted, strict=True):
        allowed = TOLERANCE * max(1.0, float(theirs.abs().max()) if theirs.numel() else 0.0)
        difference = float((ours - theirs).abs().max()) if ours.shape == theirs.shape and ours.numel() else 0.0
        if ours.shape != theirs.shape or not difference <= allowed:
            raise ElasticError(
                f"the exported network differs from the supernet: outputs of {tuple(ours.shape)} and "
                f"{tuple(theirs.shape)}, by up to {difference:.3g}, wanted at most {allowed:.3g}. "
                "Does its forward depend on more than its layers?"
            )


def _drop_beyond(network: AtDepth, deepest: float, candidates: Sequence[tuple[torch.Tensor, ...]]) -> None:
    """Put identities in the places of modules that run at the greatest depth and not at this one, in place.

    So parts that never run in evaluation stay, such as exits for the training, and lists keep their length, by which
    forward may reckon.
    """
    inputs, _ = run_first(network, candidates)
    beyond = _run_by(AtDepth(network.net, deepest), inputs) - _run_by(network, inputs)
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child in beyond:
                module._modules[name] = nn.Identity()


def _run_by(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> set[nn.Module]:
    """The modules that a forward calls."""
    ran: set[nn.Module] = set()
    hooks = [m.register_forward_hook(lambda module, *_: ran.add(module)) for m in network.modules()]
    try:
        run_first(network, [inputs])
    finally:
        for hook in hooks:
            hook.remove()
    return ran
