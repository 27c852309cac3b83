"""Find a search or a tuner by its name, ``module:Class``, and make it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas_tuners.commands import CommandError
from nas_tuners.commands.settings import read_settings
from nas_tuners.search.arguments import signature_of
from nas_tuners.search.base import Search
from nas_tuners.testing.suite import search_of
from search_spaces.resolve import FAILURES, look_in, reason_of, resolve

_OWN = "nas bench sets it itself"
_ELSEWHERE = dict.fromkeys(("seed", "constraints", "cost_table", "optimize_mode", "fixed"), _OWN)


@dataclass(frozen=True)
class Contender:
    """A class of a search or of a tuner, with its arguments."""

    name: str
    cls: type[Any]
    settings: Mapping[str, Any]

    @property
    def is_tuner(self) -> bool:
        """Return whether it is a tuner, which has a search."""
        return not issubclass(self.cls, Search)

    def make(self) -> Any:
        """Make it: a search, or a tuner."""
        return self.cls(**self.settings)

    def make_search(self) -> Search:
        """Make the search, or the tuner, and return its search."""
        return self._search_in(self.make())

    def make_seeded(self, seed: int) -> Search:
        """Make the search with a seed, if it takes one."""
        more = {"seed": seed} if "seed" in options_of(self.cls) else {}
        return self._search_in(self.cls(**self.settings, **more))

    def _search_in(self, made: Any) -> Search:
        return search_of(made) if self.is_tuner else made


def find_contender(name: str, settings: Iterable[str]) -> Contender:
    """Import what ``module:Class`` names, from the current folder first, and make it once with ``--set`` arguments.

    Raises:
        CommandError: there is no such class, it is neither a search nor a tuner, or it does not take the arguments.
    """
    if ":" not in name:
        raise CommandError(f"--tuner is {name!r}, wanted module:Class, such as my_tuner:MySearch.")
    look_in(Path.cwd())
    cls: Any = resolve(name, CommandError)
    if not _is_contender(cls):
        kind = f"the class {cls.__name__}" if isinstance(cls, type) else f"a {type(cls).__name__}"
        raise CommandError(
            f"{name} is {kind}, wanted a class derived from nas_tuners.search.Search or nas_tuners.SearchTuner."
        )
    options = options_of(cls)
    contender = Contender(name, cls, read_settings(name, options, settings, _ELSEWHERE))
    try:
        contender.make_search()
    except FAILURES as error:
        said = str(error) if isinstance(error, (ValueError, TypeError)) else reason_of(error)
        raise CommandError(f"{name} cannot be made: {' '.join(said.split())}") from error
    return contender


def options_of(cls: type[Any]) -> dict[str, Any]:
    """Return the arguments of a class by name, with their defaults."""
    signature = signature_of(cls) if issubclass(cls, Search) else inspect.signature(cls.__init__)
    parameters = list(signature.parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _is_contender(cls: Any) -> bool:
    if not isinstance(cls, type):
        return False
    if issubclass(cls, Search):
        return True
    from nas_tuners import SearchTuner  # imports NNI, which takes a second

    return issubclass(cls, SearchTuner)
