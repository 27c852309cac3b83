"""The tuners that an experiment's configuration names. Every argument is an entry of ``classArgs``."""

from __future__ import annotations

from nas_tuners.adapter import SearchTuner
from nas_tuners.search import Annealing, RandomSearch
from search_spaces import Choices


class RandomTuner(SearchTuner):
    """Random search without replacement; see :class:`~nas_tuners.search.RandomSearch` and :class:`SearchTuner`."""

    def __init__(
        self, optimize_mode: str = "maximize", seed: int = 0, on_failure: str = "worst", retries: int = 2
    ) -> None:
        super().__init__(RandomSearch(seed), optimize_mode, on_failure, retries)


class AnnealingTuner(SearchTuner):
    """Simulated annealing; see :class:`~nas_tuners.search.Annealing` and :class:`SearchTuner`."""

    def __init__(
        self,
        optimize_mode: str = "maximize",
        init_temperature: float | None = None,
        reduce_rate: float = 0.85,
        init_choices: Choices | None = None,
        seed: int = 0,
        on_failure: str = "worst",
        retries: int = 2,
    ) -> None:
        search = Annealing(init_temperature, reduce_rate, init_choices, seed)
        super().__init__(search, optimize_mode, on_failure, retries)
