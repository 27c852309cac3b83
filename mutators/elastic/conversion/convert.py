"""Convert a model into a supernet of which it is the largest sub-network.

After PaddleSlim's OFA (``convert_super``). Differs: weights are taken over, so the largest sub-network computes what
the model did; the options of a kernel, a width or a stage include its own size; concatenations, reshapes and attention
are analysed, and a width that the analysis does not know stays as it is, with the reason; ``same_search_space`` ties
widths besides those that the analysis ties, not instead of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.mutable import Mutable
from mutators.choices.torch_private import get_children
from mutators.choices.value_choice import ValueChoice
from mutators.elastic.conversion.analysis import Analysis, find_obstacle, find_owners
from mutators.elastic.conversion.calls import tensors_in
from mutators.elastic.conversion.example import Example, example_of, kept_state
from mutators.elastic.conversion.layers import LayerUse, is_depthwise, kind_of
from mutators.elastic.conversion.making import Maker
from mutators.elastic.conversion.options import Depth, Options, parse_options
from mutators.elastic.conversion.report import Conversion
from mutators.elastic.conversion.stages import DepthStage, find_stages
from mutators.elastic.conversion.ties import Node, Ties
from mutators.elastic.conversion.widths import Widths, decide_widths
from mutators.elastic.layers.depth import ElasticDepth

TOLERANCE = 1e-4
"""The largest difference allowed between largest sub-network and model on the example, for outputs up to 1."""


def convert(
    model: nn.Module,
    *,
    kernel_size: int | Sequence[int] | None = None,
    expand_ratio: float | Sequence[float] | None = None,
    channel: Sequence[Sequence[int]] | Mapping[str, Sequence[int]] | None = None,
    depth: Depth = None,
    skip_layers: Iterable[str] = (),
    same_search_space: Iterable[Sequence[str]] | None = None,
    ofa_layers: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    example: Any = None,
    input_shape: Sequence[int] | None = None,
) -> nn.Module:
    """Return a supernet with the weights of ``model``, which stays as it is.

    Its forward is the model's own: layers are replaced under their paths, and what is elastic is a choice there, as in
    ``search_space_of(net) == {"conv1.kernel_size": ..., "conv1.expand_ratio": ..., "layer1.depth": ...}``. Widths that
    additions, concatenations or depthwise convolutions tie are one choice, of the layer that is defined first. The
    model's outputs keep their sizes. ``print(conversion_of(net))`` shows what became elastic, and why not more.

    Args:
        model: without choices of its own; what the analysis does not understand of it stays as it is.
        kernel_size: odd numbers, for all convolutions that are not 1 x 1; a smaller kernel is padded with zeros.
        expand_ratio: shares of the model's own width; ``int(ratio * width)`` channels, one at least. Those above 1 add
            channels that begin silent; a single one above 1 sets every width that can grow to that size, as a single
            kernel_size sets the kernels. Of ratios that come to the same number of channels, the nearest is kept.
        channel: instead: numbers of channels by the layer's path, or as PaddleSlim has them: a list for each
            convolution, linear layer and embedding, in the order of definition; those of the last layer and of
            depthwise layers are ignored.
        depth: numbers of blocks (ints) or shares of them (floats), for all ``nn.Sequential`` stages whose last blocks
            keep the shape; or by the stage's path.
        skip_layers: layers, or modules around them, that keep kernel and width, as do all layers tied to them.
        same_search_space: groups of layers whose widths are to be the same, besides those that have to be.
        ofa_layers: candidates of single layers: ``{path: {"kernel_size": ..., "expand_ratio": ...}}``; also "channel",
            and "heads" of an attention.
        example: an input to analyse the model with: a tensor, a tuple of arguments, or a mapping of them by name. None:
            inputs that suit the first layer are tried.
        input_shape: instead: the shape of the input, with the batch.

    Raises:
        ElasticError: a name is unknown, or a candidate is not possible; all problems are listed. Or, on the example,
            the largest sub-network does not compute what the model does, or the smallest does not run.

    Returns: in the mode of ``model``, with the largest of everything applied: what it computes is what ``model`` does.
    """
    if any(isinstance(module, Mutable) for module in model.modules()):
        raise ElasticError("the model has choices already: convert it first, and then put other choices into it.")
    sizes = kernel_size, expand_ratio, channel, depth
    options = parse_options(model, *sizes, skip_layers, same_search_space, ofa_layers)
    net = copy.deepcopy(model)
    found = example_of(net, example, input_shape)
    problems: list[str] = []
    uses, stages, widths, notes = _plan(net, found, options, problems)
    maker = Maker(widths, options)
    made = {id(use.module): layer for use in uses if (layer := maker.make(use, problems)) is not None}
    if problems:
        raise ElasticError("the model cannot be converted like this:", problems)
    rows = maker.rows(net, uses, stages)
    before = [] if found is None else _outputs(net, found)
    net = _replace(net, made)
    for stage in stages:
        deep = ElasticDepth({k: v for k, v in get_children(stage.module).items() if v is not None}, stage.depths)
        deep.training = stage.module.training
        net = _replace(net, {id(stage.module): deep})
    _keep_off_fast_path(net)
    net._conversion = Conversion(rows, notes)  # type: ignore[assignment]
    if found is not None:
        _check_smallest(net, found)
        _check_largest(net, found, before)
    return net


def _plan(
    net: nn.Module, example: Example | None, options: Options, problems: list[str]
) -> tuple[list[LayerUse], list[DepthStage], Widths, tuple[str, ...]]:
    """Return the layers in definition order, the stages, the widths, and remarks on the analysis."""
    if example is None:
        if options.wants_more_than_kernels:
            raise ElasticError("no input was found that the model runs on: give example= or input_shape=.")
        note = "No input was found that the model runs on, so only kernels are elastic: give example=."
        return _find_convolutions(net), [], Widths(Ties()), (note,)
    analysis = Analysis(net, example)
    index = {id(module): i for i, module in enumerate(net.modules())}
    uses = sorted(analysis.uses.values(), key=lambda use: index[id(use.module)])
    _tie_by_hand(analysis.ties, uses, options, problems)
    stages = find_stages(net, analysis, options, problems)
    return uses, stages, decide_widths(analysis.ties, uses, options, problems), tuple(analysis.notes)


def _find_convolutions(net: nn.Module) -> list[LayerUse]:
    """Return the convolutions of a model that did not run: their kernels can still be elastic."""
    owners, uses = find_owners(net), []
    for path, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and kind_of(module) is not None:
            ins, outs = (((Node(n, "the model did not run"), 1),) for n in (module.in_channels, module.out_channels))
            outs = ins if is_depthwise(module) else outs
            uses.append(LayerUse(path, module, ins, outs, stays=find_obstacle(module, owners)))
    return uses


def _tie_by_hand(ties: Ties, uses: Sequence[LayerUse], options: Options, problems: list[str]) -> None:
    """Check that the layers that are named can be elastic, and tie those of ``same_search_space``."""
    by_path = {use.path: use for use in uses}
    for path in sorted({*options.layers, *(name for names in options.same for name in names)}):
        why = by_path[path].stays if path in by_path else "forward did not run it"
        if why:
            problems.append(f"{path} cannot be elastic: {why}. Leave it out")
    for names in options.same:
        sizes = {name: by_path[name].width for name in names if name in by_path}
        if len(set(sizes.values())) > 1:
            problem = f"the widths are {sizes}, and only equal ones can be tied: take the others out"
            problems.append(f"same_search_space: {problem}")
            continue
        for first, second in pairwise(name for name in names if name in by_path):
            if not ties.tie(by_path[first].decides, by_path[second].decides, "same_search_space"):
                problem = f"{first} and {second} are put together of different parts: take one out"
                problems.append(f"same_search_space: {problem}")


def _replace(net: nn.Module, new: Mapping[int, nn.Module]) -> nn.Module:
    """Put modules in the places of others, wherever these stand."""
    for module in list(net.modules()):
        for name, child in get_children(module).items():
            if id(child) in new:
                get_children(module)[name] = new[id(child)]
    return new.get(id(net), net)


def _keep_off_fast_path(net: nn.Module) -> None:
    """Keep torch's encoders from computing everything in one call, with the full weights of their parts."""
    for module in net.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False


def _check_smallest(net: nn.Module, example: Example) -> None:
    """Run the smallest sub-network once."""
    choices = [module for module in net.modules() if isinstance(module, ValueChoice)]
    applied = [choice.chosen for choice in choices]
    try:
        for choice in choices:
            choice.set(min(choice.values))
        with kept_state(net):
            example.run(net.eval())
    except Exception as error:  # the forward is the user's
        raise ElasticError(
            f"the smallest sub-network does not run: {type(error).__name__}: {error}. Its forward may rely on a number "
            "of channels that is written down: leave the layers there out by skip_layers."
        ) from error
    finally:
        for choice, indices in zip(choices, applied, strict=True):
            choice.choose(indices)


def _check_largest(net: nn.Module, example: Example, before: Sequence[torch.Tensor]) -> None:
    """Compare the largest sub-network once with what the model gave."""
    for wanted, got in zip(before, _outputs(net, example), strict=True):
        if wanted.is_meta or not wanted.is_floating_point():
            continue
        scale = max(1.0, float(wanted.abs().nan_to_num().max())) if wanted.numel() else 1.0
        limit = scale * max(TOLERANCE, 16 * torch.finfo(wanted.dtype).eps)
        if not torch.allclose(got, wanted, rtol=0, atol=limit, equal_nan=True):
            off = float((got - wanted).abs().nan_to_num().max())
            raise ElasticError(
                "the largest sub-network does not compute what the model does: on the example they differ by "
                f"{off:.3g}, wanted {limit:.3g} at most. Its forward may compute with the number of channels or the "
                "size of a kernel, which are larger now: leave out what is larger than the model's own, or leave the "
                "layers there out by skip_layers."
            )


def _outputs(net: nn.Module, example: Example) -> list[torch.Tensor]:
    """Return all tensors that the network gives in evaluation, computed as in training.

    The fast path, which torch's transformers take where they can, gives zeros at padded positions.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with kept_state(net):
            return tensors_in(example.run(net.eval()))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
