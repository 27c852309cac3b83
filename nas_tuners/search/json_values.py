"""Make plain JSON values of whatever a user's code returned, before any of it is sent, written or learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DEPTH = 50  # lists within lists
_BITS = 13_000  # of an int: Python's own JSON reads no more than 4,300 digits
_TEXT = 1000  # characters of an object that is none of JSON's


def to_json_value(value: Any, depth: int = 0) -> Any:
    """Return NumPy's and torch's values as Python's, and any other object as its repr, cut to 1,000 characters.

    Raises ValueError if it is nested too deeply, or holds an int that JSON cannot hold; and whatever its own methods
    raise.

    >>> to_json_value({"loss": (0.5, None), 3: range(2)})
    {'loss': [0.5, None], '3': 'range(0, 2)'}
    """
    if depth > _DEPTH:
        raise ValueError(f"it is nested more than {_DEPTH} deep, or holds itself")
    if value is None or type(value) in (float, str, bool):  # most are one of these
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        if value.bit_length() > _BITS:
            raise ValueError(f"it holds an integer of more than {_BITS} bits")
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): to_json_value(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_value(item, depth + 1) for item in value]
    if hasattr(value, "tolist") and not isinstance(value, type):
        return to_json_value(value.tolist(), depth + 1)
    return repr(value)[:_TEXT]
