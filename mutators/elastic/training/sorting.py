"""Sort channels by importance, so that the first ones, which smaller widths keep, matter most.

After Once-for-All (Cai et al., ICLR 2020, arXiv:1908.09791): the importance of a channel is the sum of the absolute
weights that read it. Nothing crosses the sizes that are trained already, so that they keep their function.

Differs: works on any network by its layers' layouts; all layers that read a channel count, squeeze-and-excite's too;
squeeze-and-excite's own channels are banded as well, where MIT's change what smaller widths compute; widths tied across
a residual stream are sorted, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.value_choice import ValueChoice
from mutators.choices.walk import walk
from mutators.elastic.layers.layouts import Use, find_unsortable, per_channel, uses_of, widths_of
from mutators.elastic.layers.width import Channels, Width
from search_spaces.checks import is_int
from search_spaces.phases.phase import fits

Options = int | str | Sequence[float]
"""Options of a choice: the number of the largest ones, "all", or a list of them."""


@dataclass(frozen=True)
class Sorting:
    """The result of sorting.

    Attributes:
        permutations: by width, (full,): the old position of the channel at each position.
        left: the widths that were not sorted, with the reason.
    """

    permutations: Mapping[Width, torch.Tensor]
    left: Mapping[Width, str]


@torch.no_grad()
def sort_channels(
    net: nn.Module,
    trained: Mapping[str, Options] | None = None,
    importance: Mapping[Width, torch.Tensor] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> Sorting:
    """Sort the channels of every width by importance, in place. The largest network computes what it did.

    So does every sub-network of the ``trained`` options: sorting stays within bands that end at their sizes.

    Args:
        net: with elastic layers; its choices stay. Give an ``OFA`` with mapping layers as a whole, so that these are
            sorted too.
        trained: options by pattern, as :class:`search_spaces.phases.Phase` has patterns: ``{"expand_ratio": (4, 6)}``
            or ``{"expand_ratio": 2}`` before 3 is opened. Of a choice without a pattern, the largest only.
        importance: (full,) scores, for widths that are not to be sorted by their weights.
        optimizer: its state is sorted too, where it has its parameter's shape, such as momentum.

    Returns: the permutations, and the widths that were not sorted: those of layers with groups, and those that no layer
    with a known layout writes, or reads.

    Raises:
        ElasticError: a pattern fits no choice, an option is not on offer, or an importance does not fit. All problems
            are listed, and the network is as it was.
    """
    uses = uses_of(net)
    widths, given = widths_of(uses), importance or {}
    options, problems = _trained_options(net, trained or {})
    problems += _check_importance(widths, given)
    if problems:
        raise ElasticError(f"this {type(net).__name__} cannot be sorted like this:", problems)
    left = find_unsortable(net, uses)
    orders = {
        width: _order(given[width] if width in given else sum_reading_weights(width, uses), _bands(width, options))
        for width in widths
        if len(width.offered) > 1 and width not in left
    }
    _permute(uses, orders, optimizer)
    return Sorting(orders, left)


def sum_reading_weights(width: Width, uses: Sequence[Use]) -> torch.Tensor:
    """Return (full,) scores: the absolute weights that read each channel, summed over all layers."""
    scores = []
    for use in uses:
        if use.axis.reads and width in use.widths and not use.aside:
            others = [dim for dim in range(use.tensor.dim()) if dim != use.axis.dim]
            scores.append(per_channel(use.tensor.abs().double().sum(others).cpu(), use.axis.channels, width))
    return torch.stack(scores).sum(0)


def _order(score: torch.Tensor, bands: Sequence[int]) -> torch.Tensor:
    """Return (full,) channels, the highest scores first in each band; ``bands`` are their ends, ascending."""
    pairs = itertools.pairwise([0, *bands])
    return torch.cat([torch.argsort(score.cpu()[a:b], descending=True, stable=True) + a for a, b in pairs])


def _bands(width: Width, options: Mapping[int, set[int]]) -> list[int]:
    """Return the sizes of a width under the trained options, and its largest, ascending."""
    trained = (options.get(id(choice), range(len(choice.values))) for choice in width.choices)
    return sorted({width.full, *(width.sizes[at] for at in itertools.product(*trained))})


def _permute(
    uses: Sequence[Use], orders: Mapping[Width, torch.Tensor], optimizer: torch.optim.Optimizer | None
) -> None:
    once = {(id(use.tensor), use.axis.dim): use for use in uses if any(width in orders for width in use.widths)}
    for use in once.values():
        index = _index(use.axis.channels, orders).to(use.tensor.device)
        state = {} if optimizer is None else optimizer.state.get(use.tensor, {})
        for tensor in (use.tensor, use.tensor.grad, *state.values()):
            if isinstance(tensor, torch.Tensor) and tensor.shape == use.tensor.shape:
                tensor.copy_(tensor.index_select(use.axis.dim, index))


def _index(channels: Channels, orders: Mapping[Width, torch.Tensor]) -> torch.Tensor:
    """Return (channels.full,) the old position of the feature at each position."""
    parts, start = list[torch.Tensor](), 0
    for width, unit in channels.segments:
        order = orders[width] if width in orders else torch.arange(width.full)
        parts.append((order[:, None] * unit + torch.arange(unit)).flatten() + start)
        start += width.full * unit
    return torch.cat(parts)


def _trained_options(net: nn.Module, trained: Mapping[str, Options]) -> tuple[dict[int, set[int]], list[str]]:
    """Return the indices of the trained options by the choice's id, the largest always among them; and the problems."""
    keys = {site.mutable: site.key for site in walk(net) if isinstance(site.mutable, ValueChoice)}
    unknown = [pattern for pattern in trained if not any(fits(key, pattern) for key in keys.values())]
    problems = [f"{pattern!r} fits no elastic choice, wanted a key or the last part of one" for pattern in unknown]
    options: dict[int, set[int]] = {}
    for choice, key in keys.items():
        given = next((value for pattern, value in trained.items() if fits(key, pattern)), 1)
        ranked = sorted(range(len(choice.values)), key=lambda index: -choice.values[index])
        wrong: list[str | None] = []
        if isinstance(given, (list, tuple)):
            wrong = [problem for value in given if (problem := choice.problem(value))]
            options[id(choice)] = set() if wrong else {ranked[0], *map(choice.values.index, given)}
        elif given == "all" or (is_int(given) and given > 0):
            options[id(choice)] = set(ranked[: given if is_int(given) else None])
        else:
            wrong = [f'{given!r} is no list of options, wanted one, or the number of the largest, or "all"']
        problems += [f"{key!r}: {problem}" for problem in wrong]
    return options, problems


def _check_importance(widths: Sequence[Width], importance: Mapping[Width, torch.Tensor]) -> list[str]:
    found = [f"an importance is for {width}, which is not in this network" for width in importance.keys() - {*widths}]
    return found + [
        f"the importance for {width} has shape {tuple(score.shape)}, wanted {width.full} finite numbers"
        for width, score in importance.items()
        if score.shape != (width.full,) or not score.isfinite().all()
    ]
