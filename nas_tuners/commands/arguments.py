"""The algorithm and its arguments, from the command line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

from nas_tuners.commands import CommandError
from nas_tuners.search.algorithms import ALGORITHMS
from nas_tuners.search.base import Search

_FLAGS = {
    "seed": "--seed",
    "constraints": "--constraint",
    "cost_table": "--cost-table",
    "score_key": "--score-key",
}  # of the options that every search has


def algorithm_of(name: str) -> type[Search]:
    """Return the search class of an algorithm. Raises CommandError if there is none of this name."""
    if name not in ALGORITHMS:
        raise CommandError(f"--algorithm {name!r} is unknown{meant(name, ALGORITHMS)}")
    return ALGORITHMS[name].search


def numbers_of(algorithm: str, texts: Iterable[str]) -> dict[str, Any]:
    """Return the arguments that ``name=value`` texts give an algorithm; values are JSON, or else texts.

    Raises CommandError if one is malformed, or the algorithm has no such argument; all problems are named.
    """
    algorithm_of(algorithm)
    known = ALGORITHMS[algorithm].own_options
    given, problems = {}, []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            problems.append(f"--set is {text!r}, wanted name=value")
        elif name in _FLAGS:
            problems.append(f"--set {name} is not for this: use {_FLAGS[name]}")
        elif name not in known:
            problems.append(f"--set {name}: {algorithm} has no such argument{meant(name, known)}")
        else:
            given[name] = _value(value)
    if problems:
        raise CommandError("\n".join(problems))
    return given


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def meant(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f": did you mean {near[0]}?"
    return f": there are {', '.join(names)}" if names else ": it takes none"
