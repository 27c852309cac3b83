"""Check single values: numbers and names. Each check returns its problems, so that a caller can report all at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection
from typing import TypeGuard

import numpy as np


def is_int(value: object) -> TypeGuard[int]:
    """Return whether a value is an integer of Python's or NumPy's, never for a bool, an array or a tensor."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite real number, never for a bool."""
    if isinstance(value, bool) or not (isinstance(value, (int, float)) or is_int(value)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int too large for a float
        return False


def rounded(count: int) -> str:
    """Return a count with two digits, however large it is.

    >>> rounded(4**20), rounded(4**5000)
    ('1.1e+12', '10^3010')
    """
    digits = (count.bit_length() - 1) * math.log10(2)
    return f"{count:.2g}" if digits < 300 else f"10^{digits:.0f}"


def exact_or_rounded(count: int) -> str:
    """Return all digits of a count of up to 4,000; Python itself writes no more than 4,300."""
    return str(count) if count.bit_length() < 13_000 else f"about {rounded(count)}"


def whole(name: str, value: object, least: int, *, optional: bool = False) -> list[str]:
    """Check a whole number from ``least`` up; with ``optional`` None passes as well.

    >>> whole("epochs", 0, 1)
    ['epochs is 0, wanted a whole number from 1 up']
    """
    if (optional and value is None) or (is_int(value) and value >= least):
        return []
    return [f"{name} is {value!r}, wanted a whole number from {least} up{' or None' * optional}"]


def between(name: str, value: object, low: float, high: float = math.inf) -> list[str]:
    """Check a finite number from ``low`` to ``high``, both included.

    >>> between("mutate_prob", 2, 0, 1)
    ['mutate_prob is 2, wanted a number from 0 to 1']
    """
    if is_number(value) and low <= value <= high:
        return []
    return [f"{name} is {value!r}, wanted a number from {low} {'up' if high == math.inf else f'to {high}'}"]


def above(name: str, value: object, low: float, high: float = math.inf) -> list[str]:
    """Check a finite number greater than ``low``, and at most ``high``.

    >>> above("reduce_rate", 0, 0, 1)
    ['reduce_rate is 0, wanted a number above 0 and at most 1']
    """
    if is_number(value) and low < value <= high:
        return []
    return [f"{name} is {value!r}, wanted a number above {low}{'' if high == math.inf else f' and at most {high}'}"]


def share(name: str, value: object) -> list[str]:
    """Check a number of at least 0 and less than 1.

    >>> share("momentum", 1)
    ['momentum is 1, wanted a number of at least 0 and less than 1']
    """
    if is_number(value) and 0 <= value < 1:
        return []
    return [f"{name} is {value!r}, wanted a number of at least 0 and less than 1"]


def one_of(name: str, value: object, known: Collection[str]) -> list[str]:
    """Check a name against those that are known.

    >>> one_of("mode", "stedy", ["steady", "generation"])
    ["mode is 'stedy', wanted one of 'generation', 'steady'; did you mean 'steady'?"]
    """
    if isinstance(value, str) and value in known:
        return []
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return [f"{name} is {value!r}, wanted one of {', '.join(map(repr, sorted(known)))}{hint}"]


def unknown(what: str, given: Collection[str], known: Collection[str]) -> list[str]:
    """Check that all names that are given are known.

    >>> unknown("build()", ["widht"], ["width", "depth"])
    ["build() takes no 'widht', wanted some of: width, depth"]
    """
    strange = [name for name in given if name not in known]
    return [f"{what} takes no {', '.join(map(repr, strange))}, wanted some of: {', '.join(known)}"] if strange else []
