"""Write the options of a key as simple values: texts, numbers, booleans and None, each unlike all others.

Programs that keep parameters in a database take nothing else, and compare them as Python does, where True equals 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from search_spaces.checks import is_int
from search_spaces.domains import Domain, InputDomain, LayerDomain, RandintDomain
from search_spaces.errors import SpaceError, shorten
from search_spaces.fixing import FixedDomain, whole_of
from search_spaces.nested import is_named

Simple = str | int | float | bool | None
MOST_OPTIONS = 256
"""A key of more options is a whole number: its value if it is a ``randint``, else the number of the option."""
_MOST_NUMBERS = 2**53  # beyond it a float, which databases keep, no longer tells numbers apart


class Options:
    """The options of one key, as simple values. All are on offer, even if the key is fixed to one.

    Raises:
        SpaceError: there are too many to tell apart.
    """

    def __init__(self, key: str, domain: Domain | FixedDomain) -> None:
        self.key, self._domain, whole = key, domain, whole_of(domain)
        if whole.radix > _MOST_NUMBERS:
            raise SpaceError(f"key {key!r} has {whole.radix} options, wanted at most 2^53: split it into several keys.")
        self.values = list_options(whole) if whole.radix <= MOST_OPTIONS else None  # None: a whole number
        self.first = whole.low if isinstance(whole, RandintDomain) else 0
        self.last = self.first + whole.radix - 1

    def value(self, token: int) -> Simple:
        """Return the value of an option."""
        number = self._domain.fixed if isinstance(self._domain, FixedDomain) else token
        return self.first + number if self.values is None else self.values[number]

    def token(self, value: Simple) -> int:
        """Return the token of a value. Raises ValueError if it is not on offer, or the key is fixed to another."""
        number = self._find(value)
        if not isinstance(self._domain, FixedDomain):
            return number
        if number != self._domain.fixed:
            raise ValueError(f"key {self.key!r} is {value!r}, but it is fixed to {self.value(0)!r}.")
        return 0

    def _find(self, value: Simple) -> int:
        if self.values is not None and value in self.values:
            return self.values.index(value)
        if self.values is None and is_int(value) and self.first <= value <= self.last:
            return int(value) - self.first
        wanted = f"{self.first} to {self.last}" if self.values is None else f"one of {shorten(list(self.values))}"
        raise ValueError(f"key {self.key!r} is {value!r}, wanted {wanted}.")


def list_options(domain: Domain) -> tuple[Simple, ...]:
    """Return the options of a key, in the order of its tokens.

    Layers are their names, inputs the names of the chosen ones, and values themselves, as JSON where they are lists or
    objects. If two of these are equal, as where names repeat, each has its number before it.

    >>> list_options(LayerDomain(("3x3", "5x5")))
    ('3x3', '5x5')
    >>> list_options(InputDomain(("a", "b"), (1, 2)))
    ('a', 'b', 'a, b')
    >>> list_options(LayerDomain(("x", "x")))
    ('0: x', '1: x')
    """
    options = [simplify(domain, token) for token in range(domain.radix)]
    if _all_differ(options):
        return tuple(options)
    texts = [option if isinstance(option, str) else json.dumps(option) for option in options]
    return tuple(texts if _all_differ(texts) else [f"{number}: {text}" for number, text in enumerate(texts)])


def simplify(domain: Domain, token: int) -> Simple:
    """Return an option as a simple value, which others may share."""
    if isinstance(domain, LayerDomain):
        return domain.names[token]
    if isinstance(domain, InputDomain):
        return ", ".join(domain.candidates[member] for member in domain.members(token))
    value: Any = domain.choice(token)
    if is_named(value):
        return str(value["_name"])
    return value if value is None or isinstance(value, (str, int, float)) else json.dumps(value)


def _all_differ(options: Sequence[Simple]) -> bool:
    return len(set(options)) == len(options)
