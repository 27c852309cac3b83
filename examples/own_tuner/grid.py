"""A search of one's own: a grid, from the first architecture to the last. NNI runs it as ``grid.GridTuner``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from nas_tuners import SearchTuner
from nas_tuners.search import Search
from search_spaces import Space, Tokens


class Grid(Search):
    """Goes through the space in order. Whatever it keeps is rebuilt by replay when an experiment is resumed."""

    def setup(self, space: Space, optimize_mode: str = "maximize") -> None:
        super().setup(space, optimize_mode)
        self.rest = itertools.product(*map(range, space.radices))

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        return itertools.islice(self.rest, n)

    def _learn(self, tokens: Tokens, score: float) -> None:
        """A grid learns nothing."""


class GridTuner(SearchTuner):
    """The name for ``className``; its arguments are the ``classArgs``."""

    def __init__(self, optimize_mode: str = "maximize") -> None:
        super().__init__(Grid(), optimize_mode)
