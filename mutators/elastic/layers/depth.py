"""A stage with elastic depth."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.value_choice import ValueChoice
from mutators.choices.visitor import Extraction
from mutators.elastic.layers.layer import Elastic
from search_spaces.checks import is_int


class ElasticDepth(Elastic):
    """Blocks in a row, of which the first ones run. Its choice: ``depth``, the number of them.

    Args:
        blocks: modules that take and return one tensor, as for ``nn.Sequential``; names are kept.
        depths: numbers of blocks (ints), or fractions of them (floats in (0, 1]), which are rounded.
        counts: the number of blocks that run for each of ``depths``; None: ``depths`` themselves. For nets whose depth
            counts only some of the blocks; with 0 blocks a stage returns its input.

    Raises:
        ElasticError: a depth cannot be reached, two mean the same, or a block is called "depth".
    """

    def __init__(
        self,
        blocks: Iterable[nn.Module] | Mapping[str, nn.Module],
        depths: Sequence[float],
        counts: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        named = dict(blocks) if isinstance(blocks, Mapping) else {str(i): block for i, block in enumerate(blocks)}
        self.counts = tuple(count_blocks(depth, len(named)) for depth in depths) if counts is None else tuple(counts)
        least = 1 if counts is None else 0
        wrong = [(d, n) for d, n in zip(depths, self.counts, strict=True) if not least <= n <= len(named)]
        problems = [f"depth {depth} is {n} blocks, wanted {least} to {len(named)}" for depth, n in wrong]
        if len(set(self.counts)) < len(self.counts):
            problems.append(f"depths {list(depths)} are {list(self.counts)} blocks: two of them are the same")
        if "depth" in named:
            problems.append("a block is called 'depth', which is the choice's name")
        if problems:
            raise ElasticError(f"these {len(named)} blocks cannot have an elastic depth:", problems)
        self._modules.update(named)
        self._names = tuple(named)
        self.depth = ValueChoice(depths)

    @property
    def blocks(self) -> list[nn.Module]:
        """All of them, in order."""
        return [self.get_submodule(name) for name in self._names]

    def gates(self) -> dict[int, tuple[nn.Module, frozenset[int]]]:
        """Return for each block, by ``id``, the choice of the depth, and the indices of the depths that run it."""
        return {
            id(block): (self.depth, frozenset(i for i, count in enumerate(self.counts) if count > place))
            for place, block in reversed(list(enumerate(self.blocks)))  # of one that stands twice, the first counts
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run (N, ...) through the blocks in use."""
        for name in self._names[: self.counts[self.depth.index]]:
            x = self._modules[name](x)  # type: ignore[misc]  # never None
        return x

    def _extracted(self, extraction: Extraction) -> nn.Sequential:
        names = self._names[: self.counts[self.depth.index_in(extraction.plan)]]
        return nn.Sequential(OrderedDict((name, extraction.copy(self.get_submodule(name))) for name in names))


def count_blocks(depth: float, blocks: int) -> int:
    """Return the number of blocks of a depth: itself, or a fraction of all, rounded."""
    return int(depth) if is_int(depth) else round(depth * blocks)
