"""The one table of search algorithms. Tuners, ``nas search``, ``nas register``, ``nas check`` and README read it.

To add one: a file with a class derived from :class:`~nas_tuners.search.Search`, and a line in ``ALGORITHMS``. Its
options, their defaults and their checks are those of the class's ``__init__``.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_tuners.search.base import Search
    from search_spaces import Space

SHARED = ("seed", "constraints", "cost_table", "score_key", "early_stopping", "outcome_constraints", "noise", "repeats")
"""Options that every search has: those of ``Shared``."""


@dataclass(frozen=True)
class Algorithm:
    """An algorithm, imported when it is first used."""

    home: str  # ``module:Class`` of the search
    tuner: str  # the name of its tuner in :mod:`nas_tuners`

    @property
    def search(self) -> type[Search]:
        """Import the class of the search."""
        module, _, name = self.home.partition(":")
        found: type[Search] = getattr(import_module(module), name)
        return found

    @property
    def registered(self) -> str:
        """Return the name of its tuner with NNI, after ``nas register``."""
        return f"Nas{self.tuner.removesuffix('Tuner')}"

    @property
    def summary(self) -> str:
        """Return what it does, in the first line of the docstring of the search."""
        return (inspect.getdoc(self.search) or "").partition("\n")[0]

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """Return all options of the search, with their defaults, in the order of its constructor."""
        from nas_tuners.search.arguments import signature_of

        parameters = signature_of(self.search).parameters
        return {name: parameter for name, parameter in parameters.items() if name != "self"}

    @property
    def own_options(self) -> Mapping[str, Any]:
        """Return the options that are not :data:`SHARED`, with their defaults."""
        return {name: parameter.default for name, parameter in self.options.items() if name not in SHARED}


ALGORITHMS = {
    "random": Algorithm("nas_tuners.search.random:RandomSearch", "RandomTuner"),
    "annealing": Algorithm("nas_tuners.search.annealing:Annealing", "AnnealingTuner"),
    "evolution": Algorithm("nas_tuners.search.evolution:Evolution", "EvolutionTuner"),
    "bayesian": Algorithm("nas_tuners.search.bayesian:Bayesian", "BayesianTuner"),
    "local": Algorithm("nas_tuners.search.local_search:LocalSearch", "LocalSearchTuner"),
    "nsga2": Algorithm("nas_tuners.search.nsga2:NSGA2", "NSGA2Tuner"),
    "shrinking": Algorithm("nas_tuners.search.shrinking:Shrinking", "ProgressiveShrinkingTuner"),
}
"""By the name for ``nas search --algorithm``."""


def make_search(given: Search | str, **arguments: Any) -> Search:
    """Return a search: the one that is given, or a new one of the algorithm of that name.

    Raises:
        ValueError: there is no such algorithm.
        TypeError: it does not take the arguments, or they were given beside a search.
    """
    from nas_tuners.search.arguments import check_made
    from search_spaces.checks import one_of

    if isinstance(given, str):
        if problems := one_of("the algorithm", given, ALGORITHMS):
            raise ValueError(f"{problems[0]}.")
        return ALGORITHMS[given].search(**arguments)
    check_made(given)
    if arguments:
        name = type(given).__name__
        raise TypeError(f"{', '.join(arguments)} and a search are given: write {name}({next(iter(arguments))}=...).")
    return given


AUTO = "auto"
"""Stands for the algorithm that :func:`choose_algorithm` chooses."""
_LONG = 2000  # trials, from where on a model of the best and the latest few hundred gains nothing


def choose_algorithm(space: Space, trials: int, options: Collection[str] = ()) -> tuple[str, str]:
    """Choose an algorithm for a search. Returns: its name, and why, in words.

    Args:
        space: what is searched.
        trials: how many there will be at most.
        options: names of options that it has to have.
    """
    if options:
        fits = [name for name, algorithm in ALGORITHMS.items() if set(options) <= set(algorithm.own_options)]
        wanted = ", ".join(options)
        if not fits:
            return "evolution", f"no algorithm takes all of {wanted}"
        if trials > _LONG and fits[0] == "bayesian" and len(fits) > 1:
            return fits[1], f"it takes {wanted}, and a model gains little after {_LONG} of {trials} trials"
        return fits[0], f"it takes {wanted}"
    if space.size <= trials:
        return "random", f"{trials} trials are enough for all {space.size} architectures"
    if trials > _LONG:
        return "evolution", f"a model of the results gains little after {_LONG} of {trials} trials"
    return "bayesian", "it needs fewest trials"


def table_rows() -> list[str]:
    """Return the rows of README's table: class, registered name, what it does, its own options with their defaults."""
    rows = []
    for algorithm in ALGORITHMS.values():
        options = ", ".join(
            f"`{name}`" + ("" if default is None else f" ({default})")
            for name, default in algorithm.own_options.items()
        )
        names = f"`nas_tuners.{algorithm.tuner}` | `{algorithm.registered}`"
        rows.append(f"| {names} | {algorithm.summary.rstrip('.')} | {options} |")
    return rows
