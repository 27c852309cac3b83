"""Numbers that depend on choices: the cost of a network's layers, for all architectures at once.

A :class:`Quantity` is a sum of tables, each with one axis for each key that it depends on. A net's layers are written
with plain arithmetic: given an architecture's numbers they are the layers of a network, given quantities they yield
the cost of every network. Sums stay sums, so that a product of two of them needs no table over all of their keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from search_spaces.cost.sums import spread

IntArray = npt.NDArray[np.int64]
Factor = tuple[tuple[str, ...], IntArray]
"""Keys, and a table with one axis for each."""
Number = Union[int, "Quantity"]
"""A number of one architecture, or of all of them."""


class Quantity:
    """A sum of tables by their keys; a table has one axis a key.

    >>> width, depth = Quantity.of("width", [8, 16]), Quantity.of("depth", [1, 2, 3])
    >>> sum_of_both = (width * depth + 5).terms
    >>> {keys: table.tolist() for keys, table in sum_of_both.items()}
    {('width', 'depth'): [[8, 16, 24], [16, 32, 48]], (): 5}
    """

    def __init__(self, terms: Mapping[tuple[str, ...], IntArray]) -> None:
        self.terms = dict(terms)

    @classmethod
    def of(cls, key: str, values: Iterable[int]) -> Quantity:
        """Return the number that a key's options stand for."""
        return cls({(key,): np.array(list(values), dtype=np.int64)})

    def __add__(self, other: Number) -> Quantity:
        return Quantity(_add_up([*self.terms.items(), *_to_terms(other).items()]))

    def __mul__(self, other: Number) -> Quantity:
        pairs = ((a, b) for a in self.terms.items() for b in _to_terms(other).items())
        return Quantity(_add_up(_combine(np.multiply, a, b) for a, b in pairs))

    def __sub__(self, other: Number) -> Quantity:
        return self + other * -1

    def __rsub__(self, other: int) -> Quantity:
        return self * -1 + other

    __radd__, __rmul__ = __add__, __mul__

    def table(self) -> Factor:
        """Return the sum as one table over all of its keys."""
        total: Factor = ((), np.zeros((), dtype=np.int64))
        for term in self.terms.items():
            total = _combine(np.add, total, term)
        return total


def elementwise(function: Callable[[Any, Any], Any], a: Number, b: Number) -> Number:
    """Apply a function that is neither a sum nor a product, such as ``np.maximum``, to two numbers."""
    if isinstance(a, int) and isinstance(b, int):
        return int(function(a, b))
    keys, table = _combine(function, *(Quantity(_to_terms(x)).table() for x in (a, b)))
    return Quantity({keys: table.astype(np.int64)})


def factorize(total: Number, limit: int = 8192) -> tuple[int, list[Factor]]:
    """Return a constant and few tables whose sum is ``total``.

    Tables that share a key are added up to one as long as it holds no more than ``limit`` numbers.
    """
    terms = _to_terms(total)
    fixed = int(terms.pop((), np.int64(0)))
    found: list[Factor] = []
    for term in sorted(terms.items(), key=lambda item: -item[1].size):
        for i, other in enumerate(found):
            ours, theirs = set(term[0]), set(other[0])
            if ours <= theirs or (ours & theirs and _count_cells(other, term) <= limit):
                found[i] = _combine(np.add, other, term)
                break
        else:
            found.append(term)
    return fixed, found


def _to_terms(number: Number) -> dict[tuple[str, ...], IntArray]:
    return dict(number.terms) if isinstance(number, Quantity) else {(): np.array(number, dtype=np.int64)}


def _add_up(terms: Iterable[Factor]) -> dict[tuple[str, ...], IntArray]:
    """Add up the tables of the same keys, whatever the order of these."""
    found: dict[frozenset[str], Factor] = {}
    for keys, table in terms:
        at = frozenset(keys)
        found[at] = _combine(np.add, found[at], (keys, table)) if at in found else (keys, table)
    return dict(found.values())


def _combine(function: Callable[[Any, Any], Any], a: Factor, b: Factor) -> Factor:
    keys = tuple(dict.fromkeys((*a[0], *b[0])))
    return keys, function(spread(*a, keys), spread(*b, keys))


def _count_cells(*terms: Factor) -> int:
    lengths = {key: length for keys, table in terms for key, length in zip(keys, table.shape, strict=True)}
    return math.prod(lengths.values())
