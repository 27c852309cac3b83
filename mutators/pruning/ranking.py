"""Rank weights by magnitude to prune the smallest, over all tensors or in each, one by one or in blocks.

Of N weights ``round(ratio * N)`` are pruned, with Python's ``round`` (halves to the even); of blocks, as many as fit
into that. Among equal magnitudes the first goes first: tensors in definition order, elements row by row. Weights that
were pruned before rank below all others, and so stay pruned.

Differs: PaddleSlim keeps weights that are at least as large as the one of that rank, so that one weight too few is
pruned (more, where magnitudes are equal), and scores a block by the magnitude of its mean, in which signs cancel; so
does ``compatible``. PaddleSlim opens all masks when it ranks more zeros than it has to prune.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from mutators.choices.errors import PruningError
from mutators.pruning.masking import integer_as_wide_as
from search_spaces.checks import between, is_int, one_of

MODES = ("ratio", "threshold")
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class WeightRanking:
    """A rule that ranks weights and says which are kept.

    Attributes:
        mode: "ratio": a share of them is pruned; "threshold": all below a magnitude.
        threshold: that magnitude.
        local: whether each tensor is ranked by itself.
        block: rows and columns (of the first two dimensions) that are pruned together, with all that follows them;
            (1, 1): each weight by itself. Blocks at the border may be smaller.
        compatible: rank as PaddleSlim does.
    """

    mode: str
    threshold: float
    local: bool
    block: tuple[int, int]
    compatible: bool

    def problems(self) -> list[str]:
        """Return all problems of the attributes, by the names of a pruner's arguments."""
        problems = one_of("mode", self.mode, MODES) + between("threshold", self.threshold, 0)
        if not isinstance(self.local, bool):
            problems.append(f"local_sparsity is {self.local!r}, wanted True or False")
        elif self.local and self.mode == "threshold":
            problems.append("local_sparsity is for mode='ratio': one threshold is the same for all tensors")
        block: Any = self.block
        if not (isinstance(block, tuple) and len(block) == 2 and all(is_int(side) and side >= 1 for side in block)):
            problems.append(f"sparse_block is {self.block!r}, wanted two integers of at least 1, such as (2, 1)")
        return problems

    def keep(self, weights: Mapping[str, torch.Tensor], kept: Mapping[str, torch.Tensor], ratio: float) -> Tensors:
        """Return masks by name: bool tensors of the weights' shapes, True where ``kept`` so far and not pruned now.

        Ties are broken by the order of ``weights``; with a threshold ``ratio`` is not used.

        Raises:
            PruningError: weights are NaN or infinite; all tensors are named.
        """
        _check_finite(weights)
        groups = self._groups(weights)
        return {name: mask for group in groups for name, mask in self._keep(group, weights, kept, ratio).items()}

    def keep_nonzero(self, weights: Mapping[str, torch.Tensor], ratio: float) -> Tensors:
        """Return masks of weights that were pruned at this ratio before, and have zeros where they were pruned.

        With blocks, a small one may fit into the rest that the last did not fill, now that weights have changed. So if
        there are as many zeros as there should be, give or take a block, just these are pruned.
        """
        nonzero = {name: weight != 0 for name, weight in weights.items()}
        everything = {name: torch.ones_like(mask) for name, mask in nonzero.items()}
        masks = self.keep(weights, everything, ratio)
        for group in self._groups(weights) if self.block != (1, 1) else []:
            size = sum(weights[name].numel() for name in group)
            zeros = size - sum(int(torch.count_nonzero(nonzero[name])) for name in group)
            block = max(self.block[0] * self.block[1] * weights[name][0, 0].numel() for name in group)
            if ratio > 0 and abs(round(ratio * size) - zeros) <= block:
                masks.update({name: nonzero[name] for name in group})
        return masks

    def _groups(self, weights: Mapping[str, torch.Tensor]) -> list[list[str]]:
        """Return the names of the weights, grouped by which are ranked together."""
        return [[name] for name in weights] if self.local else [list(weights)]

    def _keep(
        self, group: list[str], weights: Mapping[str, torch.Tensor], kept: Mapping[str, torch.Tensor], ratio: float
    ) -> Tensors:
        scores = {name: self._scores(weights[name], kept[name]) for name in group}
        device = weights[group[0]].device
        flat = torch.cat([score.flatten().to(device) for score in scores.values()])
        if self.mode == "threshold":
            low = flat < self.threshold
        else:
            budget = round(ratio * sum(weights[name].numel() for name in group))
            blocks = self.block != (1, 1)
            low = self._lowest_blocks(flat, budget, weights, group) if blocks else self._lowest(flat, budget)
        sizes = [score.numel() for score in scores.values()]
        parts = low.split(sizes)  # type: ignore[no-untyped-call]
        return {
            name: kept[name] & ~self._spread(part.view(score.shape).to(kept[name].device), weights[name].shape)
            for (name, score), part in zip(scores.items(), parts, strict=True)
        }

    def _scores(self, weight: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return magnitudes of elements or blocks, at least in float32; -1 for those that were pruned before."""
        weight = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
        if self.block == (1, 1):
            return torch.where(kept, weight.abs(), -1.0)
        sums = block_sums(weight, self.block).abs() if self.compatible else block_sums(weight.abs(), self.block)
        means = sums / block_sums(torch.ones_like(weight), self.block)
        return torch.where(block_sums(kept.to(weight.dtype), self.block) > 0, means, -1.0)

    def _lowest(self, scores: torch.Tensor, budget: int) -> torch.Tensor:
        """Mark the ``budget`` lowest; with ``compatible``, those below the one of that rank."""
        limit = kth_smallest(scores, max(budget, 1))
        low = scores < limit
        if not self.compatible:
            ties = (scores == limit).nonzero().flatten()
            low[ties[: budget - int(torch.count_nonzero(low))]] = True
        return low

    def _lowest_blocks(
        self, scores: torch.Tensor, budget: int, weights: Mapping[str, torch.Tensor], group: list[str]
    ) -> torch.Tensor:
        """Mark the lowest blocks that fit into ``budget`` weights; with ``compatible``, those below the one there."""
        ones = [torch.ones_like(weights[name], dtype=torch.float64) for name in group]
        sizes = torch.cat([block_sums(one, self.block).flatten().to(scores.device) for one in ones])
        order = scores.argsort(stable=True)
        filled = sizes[order].cumsum(0)
        if self.compatible:
            return scores < scores[order[torch.searchsorted(filled, max(budget, 1))]]
        low = torch.zeros_like(scores, dtype=torch.bool)
        low[order[filled <= budget]] = True
        return low

    def _spread(self, blocks: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """Expand a value for each block, (blocks down, blocks across), to its elements: to ``shape``."""
        if self.block == (1, 1):
            return blocks
        rows, columns = self.block
        wide = blocks.repeat_interleave(rows, 0)[: shape[0]].repeat_interleave(columns, 1)[:, : shape[1]]
        return wide.reshape(*shape[:2], *(1 for _ in shape[2:])).expand(shape)


def kth_smallest(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Return the k-th smallest, counted from 1, of numbers that are at least 0, or -1.

    The bits of such floats, read as integers, have the same order. So floats are counted by their upper 16 bits, and
    one bin is sorted. ``kthvalue`` takes three times as long, and is not deterministic on a GPU.
    """
    bins = scores.view(integer_as_wide_as(scores)) >> (8 * scores.itemsize - 16)  # negative for -1 only
    filled = torch.bincount(bins + 2**15, minlength=2**16).cumsum(0)
    place = int(torch.searchsorted(filled, k))
    before = int(filled[place - 1]) if place else 0
    return scores[bins == place - 2**15].sort().values[k - before - 1]


def block_sums(x: torch.Tensor, block: tuple[int, int]) -> torch.Tensor:
    """Sum over blocks of (m, n) and further dimensions: (rows, columns, ...) to (ceil(rows / m), ceil(columns / n))."""
    rows, columns = block
    flat = x.flatten(2).sum(2) if x.dim() > 2 else x
    padded = F.pad(flat, (0, -flat.shape[1] % columns, 0, -flat.shape[0] % rows))
    return padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns).sum((1, 3))


def _check_finite(weights: Mapping[str, torch.Tensor]) -> None:
    """Refuse NaN and infinite weights, which cannot be ranked: the training has diverged."""
    problems = []
    for name, weight in weights.items():
        bad = weight.numel() - int(torch.count_nonzero(weight.isfinite()))
        if bad:
            problems.append(f"{name!r} has {bad:,} of {weight.numel():,} that are NaN or infinite")
    if problems:
        raise PruningError(
            "weights cannot be ranked, the training has diverged: go back to the last good checkpoint, and lower the "
            f"learning rate or clip gradients ({len(problems)} tensors):",
            problems,
        )
