"""Read several objectives from the results of a search, and keep their front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np

from nas_tuners.search.arguments import Shared
from nas_tuners.search.base import Search
from nas_tuners.search.noise import NONE as NO_NOISE
from nas_tuners.search.objectives import Objectives
from nas_tuners.search.records import Best
from nas_tuners.search.stopping import Values
from search_spaces import Space, Tokens


class MultiObjective(Search):
    """A search that may have several objectives: a result without one of them is a failure, and it has a front.

    Args:
        objectives: by metric, ``maximize`` or ``minimize``; None: ``score_key`` alone, as ``setup`` says.
        shared: the arguments of every :class:`~nas_tuners.search.Search`.
    """

    def __init__(self, objectives: Mapping[str, str] | None = None, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        if objectives is not None and self.readings.mode != NO_NOISE:
            self._complain(["noise is for one objective: leave out one of noise and objectives"])
        self.objectives = None if objectives is None else Objectives(objectives, self.cost_table)

    def setup(self, space: Space, optimize_mode: str = "maximize") -> None:
        """Take the space to search. Raises ValueError if ``score_key`` is an objective in another mode."""
        mode = optimize_mode if self.objectives is None else self.objectives.modes.get(self.score_key, optimize_mode)
        if mode != optimize_mode:
            self._complain([f"objectives[{self.score_key!r}] is {mode!r}, but optimize_mode is {optimize_mode!r}"])
        super().setup(space, optimize_mode)
        if self.objectives is not None:
            self.objectives = self.objectives.arranged(space)

    def unusable(self, tokens: Tokens, metrics: Mapping[str, Any], resource: int | None = None) -> str | None:
        """Return why a result counts as a failure: one of the objectives is missing."""
        reason = super().unusable(tokens, metrics, resource)
        if reason is None and resource is None and self.objectives is not None:
            try:
                self.objectives.read(metrics, tokens)
            except ValueError as error:
                return str(error)
        return reason

    @property
    def front(self) -> list[Best]:
        """Return the nondominated results, the best by the first objective first."""
        if self.objectives is None:
            return [] if self.best is None else [self.best]
        return [trial.to_best(self._sign) for trial, _ in self.objectives.front(self.trials.values())]

    def _worth(self, tokens: Tokens, metrics: Mapping[str, Any]) -> Values:
        """Return what a result is worth in each objective; in the score alone, where one is not there yet."""
        if self.objectives is not None:
            try:
                return tuple((self.objectives.signs * np.array(self.objectives.read(metrics, tokens))).tolist())
            except ValueError:  # such as a latency that is measured at the end
                pass
        return super()._worth(tokens, metrics)
