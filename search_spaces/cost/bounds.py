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
    """The lowest and the highest value of a metric; ``exact`` if some architecture reaches each of them."""

    low: float
    high: float
    exact: bool


def find_bounds(fixed: float, radices: Sequence[int], terms: Sequence[Term]) -> Bounds:
    """Return the range of a sum; where too many keys meet, the sum of the terms' own ranges, which holds it.

    ``terms`` are as :func:`~search_spaces.cost.sums.fold_terms` returns them: none holds all keys of another.
    """
    low, high = _find_lowest(radices, terms), _find_lowest(radices, [(keys, -costs) for keys, costs in terms])
    if low is None or high is None:
        low, high = (sum(float(end(costs)) for _, costs in terms) for end in (np.min, np.max))
        return Bounds(fixed + low, fixed + high, False)
    return Bounds(fixed + low, fixed + (0.0 - high), True)


def _find_lowest(radices: Sequence[int], terms: Sequence[Term]) -> float | None:
    """Return the lowest sum; None where some sum on the way would be too large."""
    left = [term for term in terms if len(term[0]) > 1]
    total = sum(float(costs.min()) for keys, costs in terms if len(keys) == 1)
    meeting = find_meeting_keys(left)
    cells = {key: math.prod(radices[other] for other in keys) for key, keys in meeting.items()}
    while cells:
        key = min(cells, key=cells.__getitem__)
        wider = sorted(meeting.pop(key))
        if cells.pop(key) > _MAX_CELLS or len(wider) > _MAX_AXES:
            return None
        others = tuple(other for other in wider if other != key)
        best = add_terms([term for term in left if key in term[0]], wider, radices).min(axis=wider.index(key))
        left = [term for term in left if key not in term[0]]
        if others:
            left.append((others, best))
        else:
            total += float(best)
        for other in others:
            meeting[other] = (meeting[other] | set(others)) - {key}
            cells[other] = math.prod(radices[at] for at in meeting[other])
    return total


def find_meeting_keys(terms: Sequence[tuple[tuple[int, ...], object]]) -> dict[int, set[int]]:
    """Return for each key of the terms the keys that it shares a term with, itself among them."""
    found: dict[int, set[int]] = {}
    for keys, _ in terms:
        for key in keys:
            found.setdefault(key, set()).update(keys)
    return found


def add_terms(terms: Sequence[Term], keys: Sequence[int], radices: Sequence[int]) -> FloatArray:
    """Return the sum of ``terms`` as one array with an axis for each of ``keys``."""
    total = np.zeros([radices[key] for key in keys])
    for at, costs in terms:
        total += spread(at, costs, keys)
    return total
