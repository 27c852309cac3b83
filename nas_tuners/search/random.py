"""Random search, without replacement: the baseline that every other search has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nas_tuners.search.base import Search
from search_spaces import Tokens


class RandomSearch(Search):
    """Draws uniformly among the architectures not drawn yet, until there are none.

    Args:
        seed: of this search alone.
    """

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        return self.space.sample_tokens(self.rng, n).tolist()  # type: ignore[no-any-return]

    def _learn(self, tokens: Tokens, score: float) -> None:
        """Every draw is independent of the results."""
