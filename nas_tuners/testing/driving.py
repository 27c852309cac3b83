"""Drive a search as a host would: ask, tell, fail, with results that are worked out from the architecture alone."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

from nas_tuners.search.arguments import check_made
from nas_tuners.search.base import Search
from nas_tuners.testing.spaces import named_space
from search_spaces import Space, Tokens

Make = Callable[[], Search]
"""Makes the search that is checked, each time anew with the same arguments; a class that needs none will do."""


def ready(make: Make, space: Space | None = None, optimize_mode: str = "maximize") -> Search:
    """Make a search and give it a space, by default one that nothing exhausts."""
    search = make()
    check_made(search)
    search.setup(named_space() if space is None else space, optimize_mode)
    return search


def score(tokens: Tokens) -> float:
    """Return what an architecture scores: many peaks, and many ties."""
    return float(sum((i + 1) * token for i, token in enumerate(tokens)) % 17)


def as_reported(search: Search, value: float) -> Any:
    """Return a score as a trial reports it: a number, or by name where a search has several objectives."""
    names = search.arguments.get("objectives")
    return dict.fromkeys([*names, search.score_key], value) if names else value


def history(search: Search, trials: int, sign: float = 1.0) -> list[Tokens]:
    """Ask and tell in turn, with a NaN and a failure now and then. Returns: all that was ever proposed."""
    for i in range(trials):
        for proposal in search.ask():
            if i % 7 == 3:
                search.fail(proposal.uid, "out of memory")
            else:
                value = math.nan if i % 7 == 5 else sign * score(proposal.tokens)
                search.tell(proposal.uid, as_reported(search, value))
    return proposed(search)


def proposed(search: Search) -> list[Tokens]:
    """Return all architectures that a search has proposed, in their order."""
    return [trial.tokens for trial in search.trials.values()]


def pickled(search: Search) -> Search:
    """Return a search as another process would receive it."""
    copied: Search = pickle.loads(pickle.dumps(search))  # noqa: S301 - made here
    return copied


def most(search: Search, trials: int) -> int:
    """Return how many of so many trials a search can ask for: its space may be smaller, or its budget."""
    return int(min(trials, search.space.size, math.inf if search.budget is None else search.budget))
