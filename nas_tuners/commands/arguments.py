"""What a command line says of a search: its algorithm, constraints and numbers, as the search takes them."""

from __future__ import annotations

import difflib
import inspect
import json
import math
import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

from nas_tuners.commands import CommandError
from nas_tuners.search.base import Search

ALGORITHMS = {"random": "RandomSearch", "annealing": "Annealing", "evolution": "Evolution", "shrinking": "Shrinking"}
"""By the name on the command line, the class in :mod:`nas_tuners.search`."""

_OPTIONS = {
    "seed": "--seed",
    "constraints": "--constraint",
    "cost_table": "--cost-table",
    "score_key": "--score-key",
}  # arguments of every search that have an option of their own
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_LIMIT = re.compile(rf"(?:({_NUMBER})(<=|>=))?([A-Za-z_]\w*)(?:(<=|>=)({_NUMBER}))?")


def algorithm_of(name: str) -> type[Search]:
    """Return the class of an algorithm.

    Raises:
        CommandError: there is none of this name.
    """
    if name not in ALGORITHMS:
        raise CommandError(f"--algorithm {name!r} is unknown{meant(name, ALGORITHMS)}")
    found: type[Search] = getattr(import_module("nas_tuners.search"), ALGORITHMS[name])
    return found


def constraints_of(texts: Sequence[str]) -> dict[str, list[float | None]] | None:
    """Return limits, as a search takes them, from such as ``macs<=330e6`` or ``290e6<=macs<=330e6``.

    Raises:
        CommandError: one is malformed, or nothing can keep all of them.

    >>> constraints_of(["macs<=330e6", "290e6 <= macs", "params>=1000"])
    {'macs': [290000000.0, 330000000.0], 'params': [1000.0, None]}
    """
    ends: dict[str, tuple[float, float]] = {}
    for text in texts:
        metric, low, high = _limit(text)
        before = ends.get(metric, (-math.inf, math.inf))
        ends[metric] = max(low, before[0]), min(high, before[1])
        if ends[metric][0] > ends[metric][1]:
            raise CommandError(f"--constraint {text!r} leaves nothing: the range of {metric} is empty.")
    plain = {metric: [None if math.isinf(end) else end for end in pair] for metric, pair in ends.items()}
    return plain or None


def _limit(text: str) -> tuple[str, float, float]:
    found = _LIMIT.fullmatch("".join(text.split()))
    if found is None or not (found[1] or found[5]):
        wanted = 'wanted such as "macs<=330e6", "macs>=290e6" or "290e6<=macs<=330e6" (limits are inclusive)'
        raise CommandError(f"--constraint is {text!r}, {wanted}.")
    low, high = -math.inf, math.inf
    if found[1]:
        low, high = (float(found[1]), high) if found[2] == "<=" else (low, float(found[1]))
    if found[5]:
        end = float(found[5])
        low, high = (low, min(high, end)) if found[4] == "<=" else (max(low, end), high)
    return found[3], low, high


def numbers_of(algorithm: str, texts: Iterable[str]) -> dict[str, Any]:
    """Return the arguments that ``name=value`` texts give an algorithm; values are JSON, or else texts.

    Raises:
        CommandError: one is malformed, or the algorithm has no such argument; all problems are named.
    """
    parameters = inspect.signature(algorithm_of(algorithm).__init__).parameters  # of the class it would be __new__'s
    known = [name for name in list(parameters)[1:] if name not in _OPTIONS]
    given, problems = {}, []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            problems.append(f"--set is {text!r}, wanted name=value")
        elif name in _OPTIONS:
            problems.append(f"--set {name} is not for this: use {_OPTIONS[name]}")
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
