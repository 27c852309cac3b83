"""Spaces of a chain of blocks between two image sizes: PaddleSlim's ``*BlockSpace``.

Either ``block_mask`` says which blocks halve the image (1) and which keep its size (0), or ``block_num`` blocks take it
from ``input_size`` to ``output_size`` and the halvings are spread over them: of 5 blocks from 32 to 8 the strides are
2, 1, 2, 1, 1. The mask wins: with one, the other three are not looked at.

Differs from PaddleSlim: every block reads its own tokens, where PaddleSlim's blocks of stride 1 read those of earlier
blocks again and leave their own without effect; no halving at all is no division by zero; a size that cannot be
reached is an error that lists those that can; the random initial tokens come from a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search_spaces.checks import is_int, whole
from search_spaces.paddleslim.layers import Layers
from search_spaces.paddleslim.quantities import Number
from search_spaces.paddleslim.space import Network, Token, Values, make_tokens, select_stage, to_space
from search_spaces.reference import Reference
from search_spaces.schema import Tokens

Options = Mapping[str, tuple[int | str, ...]]
"""By key, the options of one block's tokens."""


@dataclass(frozen=True)
class Position:
    """The position of a block in its chain."""

    index: int  # of the block, from 0
    in_channels: Number  # of what comes in
    stride: int  # 1 or 2
    masked: bool  # whether the stride is a mask's
    paddle: bool  # whether the block is to be PaddleSlim's


_MOST_BLOCKS = 1000  # a file may name them: ten times as many take minutes to describe


@dataclass(frozen=True)
class Blocks:
    """Arguments of a chain of blocks, beside its tokens."""

    input_size: int | None = None  # height of what comes in
    output_size: int | None = None  # height of what goes out
    block_num: int | None = None
    block_mask: Sequence[int] | None = None  # 1 for a block that halves the size, 0 for one that keeps it; wins
    in_channels: int = 3  # of what comes in
    seed: int = 0  # of the initial tokens

    def problems(self) -> list[str]:
        """Return everything that is wrong with them."""
        found = self._check_sizes() if self.block_mask is None else _check_mask(self.block_mask)
        if not found and self.count > _MOST_BLOCKS:
            found = [f"there are {self.count} blocks, wanted at most {_MOST_BLOCKS}"]
        return found + whole("in_channels", self.in_channels, 1) + whole("seed", self.seed, 0)

    @property
    def count(self) -> int:
        """Return the number of blocks."""
        return len(self.block_mask) if self.block_mask is not None else int(self.block_num or 0)

    def plan(self, paddle: bool = False) -> tuple[tuple[int, int], ...]:
        """Return each block's stride, and the block whose tokens it reads: itself, or with ``paddle`` PaddleSlim's."""
        if self.block_mask is not None:
            return tuple((2 if reduces else 1, i) for i, reduces in enumerate(self.block_mask))
        halvings = len(halve(self.input_size or 1, self.output_size or 1)) - 1
        plan = _spread_halvings(self.count, halvings)
        return plan if paddle else tuple((stride, i) for i, (stride, _) in enumerate(plan))

    def _check_sizes(self) -> list[str]:
        names = ("input_size", "output_size", "block_num")
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            return [f"no {', '.join(missing)}: wanted input_size, output_size and block_num, or block_mask"]
        found = [problem for name in names for problem in whole(name, getattr(self, name), 1)]
        if found:
            return found
        reachable = halve(self.input_size or 1)[: self.count + 1]
        if self.output_size in reachable:
            return []
        return [
            f"output_size {self.output_size} cannot be reached from input_size {self.input_size} by halving at most "
            f"{self.count} times, wanted one of {', '.join(map(str, reachable))}"
        ]


def halve(first: int, last: int = 1) -> list[int]:
    """Halve a size until ``last`` is reached, odd ones rounded up; return all sizes on the way."""
    found = [first]
    while found[-1] > last:
        found.append(-(-found[-1] // 2))
    return found


def _spread_halvings(count: int, halvings: int) -> tuple[tuple[int, int], ...]:
    """Return strides as PaddleSlim spreads them, and the block whose tokens it reads for each.

    After each halving come equally many blocks of stride 1; what is left over goes to the last halvings.
    """
    if halvings == 0:
        return tuple((1, i) for i in range(count))
    rounds, left = divmod(count, halvings)
    found: list[tuple[int, int]] = []
    for i in range(halvings):
        found += [(2, i)] + [(1, k * halvings + i) for k in range(rounds - 1)]
        found += [(1, (rounds - 1) * halvings + i)] if halvings - i <= left else []
    return tuple(found)


def _check_mask(mask: object) -> list[str]:
    if isinstance(mask, (list, tuple)) and mask and all(is_int(entry) and entry in (0, 1) for entry in mask):
        return []
    return [f"block_mask is {mask!r}, wanted a list of 1 (halves the size) and 0 (keeps it), one a block"]


@dataclass(frozen=True)
class BlockSpace:
    """A space whose architectures are chains of blocks."""

    options: Options  # of one block's tokens, in order
    make: Callable[[Values, Position], tuple[Layers, Number]]  # from a block's options to its layers and channels
    input_shape: tuple[int, int, int] = (3, 32, 32)  # (C, H, W) that tests use
    references: tuple[Reference, ...] = ()
    config: type[Blocks] = Blocks

    def tokens(self, config: Blocks) -> tuple[Token, ...]:
        return self._of(config.count)

    def tokens_like(self, keys: Sequence[str]) -> tuple[Token, ...]:
        """Return the tokens of as many blocks as the keys name, at least one."""
        named = {key.partition(".")[0] for key in keys if key.partition(".")[2] in self.options}
        return self._of(max(1, len(named)))

    def tokens_for(self, count: int) -> tuple[Token, ...]:
        return self._of(max(1, count // len(self.options)))

    def initial(self, config: Blocks) -> Tokens:
        return to_space(self.tokens(config)).sample(np.random.default_rng(config.seed))

    def network(self, values: Values, config: Blocks, paddle: bool) -> Network:
        stages: list[tuple[str, Layers]] = []
        channels: Number = config.in_channels
        for i, (stride, reads) in enumerate(config.plan(paddle)):
            position = Position(i, channels, stride, config.block_mask is not None, paddle)
            layers, channels = self.make(select_stage(values, _name(reads)), position)
            stages.append((_name(i), layers))
        return Network(tuple(stages), channels)

    def _of(self, count: int) -> tuple[Token, ...]:
        return tuple(token for i in range(count) for token in make_tokens(_name(i), **self.options))


def _name(index: int) -> str:
    return f"block{index + 1}"
