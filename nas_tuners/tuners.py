"""The tuners that an experiment's configuration names. Every argument is an entry of ``classArgs``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_tuners.hosts.nni.tuner import SearchTuner
from nas_tuners.search import Annealing, Evolution, RandomSearch, Shrinking
from nas_tuners.search.base import Table
from nas_tuners.search.constraints import Constraints
from search_spaces import Choices


def located(table: Table) -> Table:
    """Find a file beside the tuner's code: NNI runs it in its log folder, but puts ``codeDirectory`` on the path."""
    if not isinstance(table, (str, Path)) or Path(table).exists():
        return table
    return next((path for folder in reversed(sys.path) if (path := Path(folder, table)).is_file()), table)


class RandomTuner(SearchTuner):
    """Random search without replacement; see :class:`~nas_tuners.search.RandomSearch` and :class:`SearchTuner`."""

    def __init__(
        self,
        optimize_mode: str = "maximize",
        seed: int = 0,
        on_failure: str = "worst",
        retries: int = 2,
        constraints: Constraints | None = None,
        cost_table: Table = None,
        score_key: str = "default",
    ) -> None:
        super().__init__(
            RandomSearch(seed, constraints, located(cost_table), score_key), optimize_mode, on_failure, retries
        )


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
        constraints: Constraints | None = None,
        cost_table: Table = None,
        score_key: str = "default",
    ) -> None:
        table = located(cost_table)
        search = Annealing(init_temperature, reduce_rate, init_choices, seed, constraints, table, score_key)
        super().__init__(search, optimize_mode, on_failure, retries)


class EvolutionTuner(SearchTuner):
    """Evolution; see :class:`~nas_tuners.search.Evolution` and :class:`SearchTuner`."""

    def __init__(
        self,
        optimize_mode: str = "maximize",
        candidate_pool_size: int | None = None,
        candidate_top_k: int | None = None,
        num_mutation: int | None = None,
        num_crossover: int | None = None,
        mutate_prob: float | None = None,
        max_epoch: int | None = None,
        constraints: Constraints | None = None,
        score_key: str = "default",
        seed: int = 0,
        cost_table: Table = None,
        mode: str = "steady",
        regularized: bool = False,
        preset: str | None = None,
        on_failure: str = "worst",
        retries: int = 2,
    ) -> None:
        search = Evolution(
            candidate_pool_size=candidate_pool_size,
            candidate_top_k=candidate_top_k,
            num_mutation=num_mutation,
            num_crossover=num_crossover,
            mutate_prob=mutate_prob,
            max_epoch=max_epoch,
            constraints=constraints,
            score_key=score_key,
            seed=seed,
            cost_table=located(cost_table),
            mode=mode,
            regularized=regularized,
            preset=preset,
        )
        super().__init__(search, optimize_mode, on_failure, retries)


class ProgressiveShrinkingTuner(SearchTuner):
    """Opens the space phase by phase; see :class:`~nas_tuners.search.Shrinking` and :class:`SearchTuner`.

    A trial gets its choices and ``_phase``: ``{"index": 0, "of": 7, "name": "kernel_size 0"}``; the last phase of all
    is ``search``, in which it should evaluate the shared network, not train it.
    """

    def __init__(
        self,
        optimize_mode: str = "maximize",
        elastic_order: Sequence[str] | None = None,
        phase_budgets: int | Sequence[Sequence[int]] | None = None,
        phases: Sequence[Mapping[str, Any]] | None = None,
        inner: str = "evolution",
        inner_arguments: Mapping[str, Any] | None = None,
        seed: int = 0,
        on_failure: str = "worst",
        retries: int = 2,
        constraints: Constraints | None = None,
        cost_table: Table = None,
        score_key: str = "default",
    ) -> None:
        table = located(cost_table)
        search = Shrinking(
            elastic_order, phase_budgets, phases, inner, inner_arguments, seed, constraints, table, score_key
        )
        super().__init__(search, optimize_mode, on_failure, retries)
