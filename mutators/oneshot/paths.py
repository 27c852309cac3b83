"""Choose the paths that a step of supernet training runs: each strategy is a function of a seed and the step.

Strategies have no state. So all processes of a distributed training draw the same path without communication, and a
resumed training draws the same paths as an unbroken one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from mutators.choices.errors import OneShotError
from search_spaces.checks import is_number, whole
from search_spaces.cost.table import CostTable
from search_spaces.schema import Space, Tokens

Paths = Callable[[int], Sequence[Tokens]]
"""Maps the number of a step, from 0, to the architectures whose gradients it adds up before its one update."""

MEGVII_BINS = tuple(edge * 1e6 for edge in range(290, 361, 10))
MAX_FAIR_OPTIONS = 64
_CHUNK = 50


def uniform(space: Space, seed: int = 0) -> Paths:
    """Run one architecture a step, each equally likely (Guo et al., ECCV 2020, arXiv:1904.00420).

    >>> space = Space.from_json({"conv": {"_type": "layer_choice", "_value": ["3x3", "5x5"]}})
    >>> paths = uniform(space, seed=1)
    >>> paths(7) == paths(7), len(paths(7))
    (True, 1)
    """
    return lambda step: [space.sample(np.random.default_rng((seed, step)))]


def fair(space: Space, seed: int = 0) -> Paths:
    """Run each option equally often, in each step (FairNAS's strict fairness, Chu et al., ICCV 2021, arXiv:1907.01845).

    With m the largest number of options of a key, a step runs m architectures on the same batch. Each option of a key
    of m options stands in exactly one of them, in random order, independent of the other keys. Gradients of the m
    backward passes are added up, not averaged, as in the paper's algorithm 1; then the optimizer makes one step.

    Differs: keys may have different numbers of options. A key of fewer than m goes through its own random orders, one
    after another without a gap, so that at any time its options were trained equally often, give or take one.

    Raises:
        OneShotError: a key has more than 64 options.
    """
    large = [f"{k!r} has {r} options" for k, r in zip(space.keys, space.radices, strict=True) if r > MAX_FAIR_OPTIONS]
    if large:
        raise OneShotError(
            f"a fair step runs each option once, so a key has at most {MAX_FAIR_OPTIONS}: take uniform.", large
        )
    group = max(space.radices, default=1)

    def paths(step: int) -> list[Tokens]:
        columns = [_slice_of_orders(seed, key, radix, step * group, group) for key, radix in enumerate(space.radices)]
        return list(zip(*columns, strict=True)) if columns else [()]

    return paths


def _slice_of_orders(seed: int, key: int, radix: int, start: int, count: int) -> list[int]:
    """Return ``count`` tokens, from ``start`` on, of the endless chain of random orders of ``range(radix)``."""
    blocks = range(start // radix, (start + count - 1) // radix + 1)
    chain = [t for block in blocks for t in np.random.default_rng((seed, key, block)).permutation(radix).tolist()]
    first = start - blocks[0] * radix
    return chain[first : first + count]


def macs_bins(
    space: Space,
    table: CostTable,
    seed: int = 0,
    bounds: Sequence[float] = MEGVII_BINS,
    metric: str = "macs",
    tries: int = 500,
) -> Paths:
    """Run one architecture a step, spread evenly over the cost, as Megvii's code for Single Path One-Shot does.

    A step draws a bin uniformly, then architectures uniformly until the cost of one lies in the bin, both ends
    included. After ``tries`` it takes one more, whatever it costs.

    Args:
        space: of the model.
        table: of the same space.
        seed: at least 0.
        bounds: of the bins, ascending, in the metric's unit; by default seven bins of 10M from 290M to 360M, which
            fit ShuffleNetV2 at 3x224x224.
        metric: one of the table's.
        tries: at least 1.

    Raises:
        CostError: the table is of another space or lacks the metric.
        OneShotError: the bounds do not ascend, or no architecture can be in any of the bins.
    """
    arranged = table.arranged(space)
    cost_range = arranged.bounds(metric)
    if problems := whole("tries", tries, 1):
        raise OneShotError(f"{problems[0]}.")
    if len(bounds) < 2 or not all(map(is_number, bounds)) or any(a >= b for a, b in pairwise(bounds)):
        raise OneShotError(f"bounds are {list(bounds)}, wanted at least two ascending numbers.")
    if cost_range.high < bounds[0] or cost_range.low > bounds[-1]:
        raise OneShotError(
            f"no architecture is in any bin: {metric} goes from {cost_range.low:.6g} to {cost_range.high:.6g}, the "
            f"bins from {bounds[0]:.6g} to {bounds[-1]:.6g}. Give bounds= within what the architectures cost."
        )

    def paths(step: int) -> list[Tokens]:
        rng = np.random.default_rng((seed, step))
        low = int(rng.integers(len(bounds) - 1))
        for done in range(0, tries, _CHUNK):
            drawn = space.sample_tokens(rng, min(_CHUNK, tries - done))
            costs = arranged.costs(metric, drawn)
            inside = np.flatnonzero((costs >= bounds[low]) & (costs <= bounds[low + 1]))
            if len(inside):
                return [tuple(drawn[inside[0]].tolist())]
        return [space.sample(rng)]

    return paths
