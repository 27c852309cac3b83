"""NNI's nested form of ``choice``: ``{"_name": "conv", "kernel": {"_type": "choice", "_value": [3, 5]}}`` as an option.

Inside, the key ``kernel`` of option ``conv`` of key ``block`` is the key ``block/conv/kernel``, under a condition. A
trial gets its choices nested, as from NNI: ``{"block": {"_name": "conv", "kernel": 3}}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search_spaces.domains import ChoiceDomain, Domain

_NAME = "_name"


def expand_entries(entries: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the entries of a space file, each nested one as its own options' names, and then what is inside."""
    for key, entry in entries.items():
        options = entry.get("_value") if isinstance(entry, dict) and entry.get("_type") == "choice" else None
        if not isinstance(options, list) or not options or not all(map(is_named, options)):
            yield key, entry
            continue
        yield key, {**entry, "_value": [{_NAME: option[_NAME]} for option in options]}
        for option in options:
            inside = {
                name if name.startswith("_") else f"{key}/{option[_NAME]}/{name}": _inner(key, option[_NAME], inner)
                for name, inner in option.items()
                if name != _NAME
            }
            yield from expand_entries(inside)


def _inner(key: str, name: str, entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    said = {"_when inside an option" if field == "_when" else field: value for field, value in entry.items()}
    return {**said, "_when": {key: [{_NAME: name}]}}


def is_named(option: object) -> bool:
    """Return whether an option is of the nested form."""
    return isinstance(option, dict) and isinstance(option.get(_NAME), str)


class Nesting:
    """The keys of a space that stand inside options of others.

    >>> nesting = Nesting({"a": ChoiceDomain(({"_name": "x"}, {"_name": "y"})), "a/x/b": ChoiceDomain((1, 2))})
    >>> nesting.nest({"a": {"_name": "x"}, "a/x/b": 2})
    {'a': {'_name': 'x', 'b': 2}}
    >>> nesting.flatten({"a": {"_name": "x", "b": 2}})
    {'a': {'_name': 'x'}, 'a/x/b': 2}
    """

    def __init__(self, domains: Mapping[str, Domain]) -> None:
        self._outer = {
            key: [option[_NAME] for option in domain.options]
            for key, domain in domains.items()
            if isinstance(domain, ChoiceDomain) and all(map(is_named, domain.options))
        }
        outers = sorted(self._outer, key=len)
        starts = {f"{outer}/{option}/": outer for outer in outers for option in self._outer[outer]}
        lengths = sorted(set(map(len, starts)))  # few: looking for each start in each key would take minutes
        self._inside: dict[str, tuple[str, str]] = {}
        for key in domains:
            found = [(starts[key[:at]], key[at:]) for at in lengths if key[:at] in starts]
            if found:
                self._inside[key] = max(found, key=lambda pair: len(pair[0]))

    def __bool__(self) -> bool:
        return bool(self._outer)

    def nest(self, choices: Mapping[str, Any]) -> dict[str, object]:
        """Return choices with those that stand inside an option put there."""
        found: dict[str, object] = {}
        places: dict[str, dict[str, object]] = {}
        for key in sorted(choices, key=len) if self else choices:
            choice = choices[key]
            if key in self._outer:
                choice = places[key] = dict(choice)
            outer, name = self._inside.get(key, (None, key))
            (found if outer is None else places[outer])[name] = choice
        return {key: found[key] for key in choices if key in found}

    def flatten(self, choices: Mapping[str, object]) -> dict[str, object]:
        """Return choices by their keys in the space."""
        found: dict[str, object] = {}
        left = list(choices.items())
        while left:
            key, choice = left.pop(0)
            if key in self._outer and isinstance(choice, Mapping) and _NAME in choice:
                inside = {f"{key}/{choice[_NAME]}/{name}": inner for name, inner in choice.items() if name != _NAME}
                left, choice = [*inside.items(), *left], {_NAME: choice[_NAME]}
            found[key] = choice
        return found
