"""Search as another's tuner does, with our journal and pairing: any ``nni.tuner.Tuner`` can be run without NNI.

Differs from NNI: an architecture is proposed once, so that a tuner that proposes one again gets its result again; where
it has nothing to propose, architectures are drawn at random, of which it is told nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import nni
from nni.tuner import Tuner

from nas_tuners.search.base import Search
from search_spaces import Space, Tokens


class Guest(Search):
    """A search by another's tuner, which :meth:`host` is given.

    Args:
        name: of the tuner, for the journal.
        score_key: which of several metrics counts.
    """

    def __init__(self, name: str, score_key: str = "default") -> None:
        super().__init__(0, score_key=score_key)
        self.name = name
        self._tuner: Any = None
        self._ids = itertools.count()
        self._asked: dict[Tokens, list[tuple[int, Any]]] = {}  # what it proposed: its ids, and its own parameters
        self._scores: dict[Tokens, float] = {}

    def host(self, tuner: Tuner) -> Guest:
        """Take the tuner, which has no space yet. Returns: this search."""
        self._tuner = tuner
        return self

    def setup(self, space: Space, optimize_mode: str = "maximize") -> None:
        """Take the space, and give it to the tuner, which knows its mode by itself. See :meth:`Search.setup`."""
        super().setup(space, optimize_mode)
        self._tuner.update_search_space(space.to_json())

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        proposed = []
        for number in itertools.islice(self._ids, n):
            try:
                parameters = self._tuner.generate_parameters(number)
            except nni.NoMoreTrialError:
                break
            tokens = self.space.encode(parameters)
            self._asked.setdefault(tokens, []).append((number, parameters))
            if tokens in self._scores:
                self._tell(number, parameters, self._scores[tokens])
            proposed.append(tokens)
        return proposed

    def _learn(self, tokens: Tokens, score: float) -> None:
        self._scores[tokens] = score
        for number, parameters in self._asked.get(tokens, ()):
            self._tell(number, parameters, score)

    def _tell(self, number: int, parameters: Any, score: float) -> None:
        """Tell the tuner of a result, or of a failure, as NNI would."""
        if score > -math.inf:
            self._tuner.receive_trial_result(number, parameters, self._sign * score)
        self._tuner.trial_end(number, score > -math.inf)
