"""The short notations of a fixed architecture: an index, a name, a list of them, or one bool a candidate."""

from __future__ import annotations

from typing import Any

from mutators.choices.errors import ChoiceError
from search_spaces.checks import is_int
from search_spaces.domains import Choice, InputDomain, LayerDomain


def to_choice(domain: LayerDomain | InputDomain, value: Any) -> Choice:
    """Return ``{"_idx": ...}`` for a short notation; what is an object already is returned as it is.

    A text is always a name, an int always an index: for the candidates ``{"1": a, "0": b}``, "1" is a and 1 is b.

    Raises:
        ChoiceError: it is no notation, or a name is unknown or stands several times. Indices are not checked.
    """
    if isinstance(value, dict):
        return value
    names = domain.names if isinstance(domain, LayerDomain) else domain.candidates
    indices = _from_bools(names, value) if _is_multihot(value) else _from_list(names, value)
    if isinstance(domain, InputDomain):
        return {"_idx": indices}
    if len(indices) != 1:
        raise ChoiceError(f"{value!r} chooses {len(indices)} candidates, wanted exactly one of {list(names)}")
    return {"_idx": indices[0]}


def _is_multihot(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(item, bool) for item in value)


def _from_bools(names: tuple[str, ...], value: Any) -> list[int]:
    if len(value) != len(names):
        raise ChoiceError(f"{value!r} has {len(value)} bools, wanted {len(names)}, one for each of {list(names)}")
    return [index for index, chosen in enumerate(value) if chosen]


def _from_list(names: tuple[str, ...], value: Any) -> list[int]:
    return [_index(names, item) for item in (value if isinstance(value, (list, tuple)) else [value])]


def _index(names: tuple[str, ...], item: Any) -> int:
    if is_int(item):
        return int(item)
    if not isinstance(item, str):
        raise ChoiceError(
            f"got {item!r}, wanted an index, a name, a list of them, or one bool for each of {list(names)}"
        )
    if names.count(item) != 1:
        reason = "stands several times in" if item in names else "is not in"
        raise ChoiceError(f"the name {item!r} {reason} {list(names)}, wanted the index")
    return names.index(item)
