"""The lowest and the highest sum of terms that share keys, by eliminating one key after the other.

Bucket elimination (Dechter, Artificial Intelligence 1999): all terms of a key are added up, and the best option of the
key is taken for each setting of their other keys. Exact, and cheap as long as few keys meet in one sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search_spaces.cost.sums import FloatArray, Term, spread

_MAX_CELLS = 2**20  # of one sum: 8 MB
_MAX_AXES = 32  # NumPy's own limit


@dataclass(frozen=True)
class Bounds:
    """The least and the most that a metric can be; ``exact`` if some architecture reaches each of them."""

    low: float
    high: float
    exact: bool


def bounds(radices: Sequence[int], terms: Sequence[Term]) -> Bounds:
    """Return the range of a sum of terms; the sum of the terms' own ranges where too many keys meet."""
    eliminated = _lowest(radices, terms), _lowest(radices, [(keys, -costs) for keys, costs in terms])
    if eliminated[0] is None or eliminated[1] is None:
        low, high = (sum(float(end(costs)) for _, costs in terms) for end in (np.min, np.max))
        return Bounds(low, high, False)
    return Bounds(eliminated[0], -eliminated[1] + 0.0, True)


def _lowest(radices: Sequence[int], terms: Sequence[Term]) -> float | None:
    """The least sum; None where some sum on the way would be too large."""
    left, total, meeting = list(terms), 0.0, meeting_of(terms)
    cells = {key: math.prod(radices[other] for other in keys) for key, keys in meeting.items()}
    while cells:
        key = min(cells, key=cells.__getitem__)
        wider = sorted(meeting.pop(key))
        if cells.pop(key) > _MAX_CELLS or len(wider) > _MAX_AXES:
            return None
        others = tuple(other for other in wider if other != key)
        best = sum_of([term for term in left if key in term[0]], wider, radices).min(axis=wider.index(key))
        left = [term for term in left if key not in term[0]]
        if others:
            left.append((others, best))
        else:
            total += float(best)
        for other in others:
            meeting[other] = (meeting[other] | set(others)) - {key}
            cells[other] = math.prod(radices[at] for at in meeting[other])
    return total


def meeting_of(terms: Sequence[Term]) -> dict[int, set[int]]:
    """Return for each key of the terms: the keys that it shares a term with, and itself."""
    found: dict[int, set[int]] = {}
    for keys, _ in terms:
        for key in keys:
            found.setdefault(key, set()).update(keys)
    return found


def sum_of(terms: Sequence[Term], keys: Sequence[int], radices: Sequence[int]) -> FloatArray:
    """Return the sum of ``terms`` as one array over all of ``keys``."""
    total = np.zeros([radices[key] for key in keys])
    for at, costs in terms:
        total += spread(at, costs, keys)
    return total
