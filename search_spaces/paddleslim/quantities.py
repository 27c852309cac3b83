"""Numbers that depend on choices: what a network's layers cost, for all architectures at once.

A :class:`Quantity` is a sum of tables, each with one axis for each key that it depends on. A net's layers are written
with plain arithmetic; given an architecture's numbers they are the layers of a network, given quantities they say
what every network would cost. Sums stay sums, so that a product of two of them needs no table over all of their keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Union

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.int64]
Number = Union[int, "Quantity"]
"""A number of an architecture, or what it is for each of them."""


class Quantity:
    """A sum of tables by their keys; a table has one axis a key.

    >>> width, depth = Quantity.of("width", [8, 16]), Quantity.of("depth", [1, 2, 3])
    >>> sum_of_both = (width * depth + 5).terms
    >>> {keys: table.tolist() for keys, table in sum_of_both.items()}
    {('width', 'depth'): [[8, 16, 24], [16, 32, 48]], (): 5}
    """

    def __init__(self, terms: Mapping[tuple[str, ...], Table]) -> None:
        self.terms = dict(terms)

    @classmethod
    def of(cls, key: str, values: Iterable[int]) -> Quantity:
        """Return the number that a key's options stand for."""
        return cls({(key,): np.array(list(values), dtype=np.int64)})

    def __add__(self, other: Number) -> Quantity:
        return Quantity(_summed([*self.terms.items(), *_terms(other).items()]))

    def __mul__(self, other: Number) -> Quantity:
        pairs = ((a, b) for a in self.terms.items() for b in _terms(other).items())
        return Quantity(_summed(_applied(np.multiply, a, b) for a, b in pairs))

    def __sub__(self, other: Number) -> Quantity:
        return self + other * -1

    def __rsub__(self, other: int) -> Quantity:
        return self * -1 + other

    __radd__, __rmul__ = __add__, __mul__

    def table(self) -> tuple[tuple[str, ...], Table]:
        """Return the sum as one table over all of its keys."""
        total: tuple[tuple[str, ...], Table] = ((), np.zeros((), dtype=np.int64))
        for term in self.terms.items():
            total = _applied(np.add, total, term)
        return total


def elementwise(function: Callable[[Any, Any], Any], a: Number, b: Number) -> Any:
    """Apply what is neither a sum nor a product, such as ``np.maximum``, to two numbers: an int to two ints."""
    if isinstance(a, int) and isinstance(b, int):
        return int(function(a, b))
    keys, table = _applied(function, *(Quantity(_terms(x)).table() for x in (a, b)))
    return Quantity({keys: table.astype(np.int64)})


def factors(total: Number, limit: int = 8192) -> tuple[int, list[tuple[tuple[str, ...], Table]]]:
    """Return a constant and few tables whose sum is ``total``.

    Tables that share a key are added up to one as long as it holds no more than ``limit`` numbers.
    """
    terms = _terms(total)
    fixed = int(terms.pop((), np.int64(0)))
    found: list[tuple[tuple[str, ...], Table]] = []
    for term in sorted(terms.items(), key=lambda item: -item[1].size):
        for i, other in enumerate(found):
            union = _union(other[0], term[0])
            if set(union) == set(other[0]) or (set(other[0]) & set(term[0]) and _size((other, term)) <= limit):
                found[i] = _applied(np.add, other, term)
                break
        else:
            found.append(term)
    return fixed, found


def _terms(number: Number) -> dict[tuple[str, ...], Table]:
    return dict(number.terms) if isinstance(number, Quantity) else {(): np.array(number, dtype=np.int64)}


def _summed(terms: Iterable[tuple[tuple[str, ...], Table]]) -> dict[tuple[str, ...], Table]:
    """Add up the tables of the same keys, in whichever order these come."""
    found: dict[frozenset[str], tuple[tuple[str, ...], Table]] = {}
    for keys, table in terms:
        at = frozenset(keys)
        found[at] = _applied(np.add, found[at], (keys, table)) if at in found else (keys, table)
    return dict(found.values())


def _applied(
    function: Callable[[Any, Any], Any], a: tuple[tuple[str, ...], Table], b: tuple[tuple[str, ...], Table]
) -> tuple[tuple[str, ...], Table]:
    keys = _union(a[0], b[0])
    return keys, function(_spread(a, keys), _spread(b, keys))


def _union(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*a, *b)))


def _spread(term: tuple[tuple[str, ...], Table], keys: tuple[str, ...]) -> Table:
    """A view with one axis for each of ``keys``, of length 1 where the table does not depend on the key."""
    own, table = term
    present = [key for key in keys if key in own]
    ordered = table.transpose([own.index(key) for key in present])
    return ordered[tuple(slice(None) if key in own else None for key in keys)]


def _size(terms: Iterable[tuple[tuple[str, ...], Table]]) -> int:
    lengths = {key: length for keys, table in terms for key, length in zip(keys, table.shape, strict=True)}
    return math.prod(lengths.values())
