"""Random search, without replacement: the baseline that every other search has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nas_tuners.search.base import Search
from search_spaces import Tokens


class RandomSearch(Search):
    """Random search without replacement: draws uniformly among the architectures that are left.

    Args:
        seed: of this search alone.
        constraints, cost_table, score_key: as for every :class:`~nas_tuners.search.Search`.
    """

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        return self._sample(n)

    def _learn(self, tokens: Tokens, score: float) -> None:
        """Do nothing: every draw is independent of the results."""
