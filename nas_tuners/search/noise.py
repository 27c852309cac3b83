"""Tell the best architecture from the luckiest result: what leads is evaluated again, and means are shrunk.

Empirical Bayes for normal distributions (Efron and Morris, JASA 1975): the noise from results of the same architecture,
the spread between architectures from all. Differs: only what leads is evaluated again, as in the intensification of
SMAC (Hutter et al., LION 2011).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from search_spaces import Tokens
from search_spaces.checks import one_of, whole

NONE, AUTO, REPEATS = "none", "auto", "repeats"
MODES = (NONE, AUTO, REPEATS)
_LEAST = 0.2  # of the spread of the means, that is between the architectures
_SURE = 2  # architectures with several results, before ``auto`` believes what they say of the noise


def check_noise(noise: Any, repeats: Any) -> list[str]:
    """Check the arguments of a search."""
    return one_of("noise", noise, MODES) + whole("repeats", repeats, 2)


@dataclass(frozen=True)
class Estimate:
    """What the score of an architecture is believed to be, from ``results`` results; ``error``: a standard error."""

    mean: float
    error: float
    results: int


class Readings:
    """The results of a search by architecture.

    Args:
        mode: whether what leads is evaluated again: ``none``; ``repeats``; ``auto``, unless its lead is clear.
        most: how many results of an architecture are wanted.
    """

    def __init__(self, mode: str, most: int) -> None:
        self.mode, self.most = mode, most
        self._scores: dict[Tokens, list[float]] = {}

    def add(self, tokens: Tokens, score: float) -> None:
        """Take in a result, to be maximized."""
        self._scores.setdefault(tokens, []).append(score)

    def __contains__(self, tokens: object) -> bool:
        return tokens in self._scores

    def count(self, tokens: Tokens) -> int:
        """Return how many results an architecture has."""
        return len(self._scores.get(tokens, ()))

    def mean(self, tokens: Tokens) -> float:
        """Return the mean of an architecture's results."""
        return _mean(self._scores[tokens])

    @property
    def leader(self) -> Tokens | None:
        """Return the architecture of the highest posterior mean, the earliest among equals; None without a result."""
        estimate = self._make_estimate()
        return max(self._scores, key=lambda tokens: estimate(tokens).mean, default=None)

    def estimate(self, tokens: Tokens) -> Estimate:
        """Return what the score of an architecture is believed to be."""
        return self._make_estimate()(tokens)

    @property
    def due(self) -> Tokens | None:
        """Return the architecture that should be evaluated again: the leader, unless enough is known of it."""
        if self.mode == NONE or len(self._scores) < 2:
            return None
        estimate = self._make_estimate()
        second, first = sorted(self._scores, key=lambda tokens: estimate(tokens).mean)[-2:]
        if len(self._scores[first]) >= self.most or (
            self.mode == AUTO and self._is_clear(estimate(first), estimate(second))
        ):
            return None
        return first

    def _is_clear(self, first: Estimate, second: Estimate) -> bool:
        """Return whether the noise is known, and the lead is more than its standard error."""
        repeated = sum(len(own) > 1 for own in self._scores.values())
        return repeated >= _SURE and first.mean - second.mean >= math.hypot(first.error, second.error)

    def _make_estimate(self) -> Callable[[Tokens], Estimate]:
        """Return a function of an architecture; noise and spread are estimated once."""
        groups = list(self._scores.values())
        freedom = sum(len(own) - 1 for own in groups)
        noise = sum((score - _mean(own)) ** 2 for own in groups for score in own) / freedom if freedom else 0.0
        means = [_mean(own) for own in groups]
        middle = _mean(means) if means else 0.0
        within = _mean([noise / len(own) for own in groups]) if groups else 0.0
        spread = sum((mean - middle) ** 2 for mean in means) / max(len(means) - 1, 1)
        between = max(spread - within, _LEAST * spread)  # a few pairs that differ by chance do not make all equal

        def estimate(tokens: Tokens) -> Estimate:
            own = self._scores[tokens]
            variance = noise / len(own)
            kept = between / (between + variance) if variance else 1.0
            return Estimate(middle + kept * (_mean(own) - middle), math.sqrt(kept * variance), len(own))

        return estimate


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
