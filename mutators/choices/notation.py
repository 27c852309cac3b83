"""Read choices in the notations in which they are given, against what a model offers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from mutators.choices.errors import ChoiceError
from search_spaces.checks import is_int
from search_spaces.domains import Choice, InputDomain, LayerDomain
from search_spaces.schema import Space, When

_FIELDS = {"_idx", "_value", "_idex"}
_ARRAYS = (torch.Tensor, np.ndarray)


def is_decision(key: object, value: object) -> bool:
    """Tell whether an entry was meant for a model, and is not the tuner's own or a hyper-parameter."""
    return not str(key).startswith("_") and isinstance(value, dict) and not _FIELDS.isdisjoint(value)


def read_choices(
    domains: Mapping[str, LayerDomain | InputDomain],
    given: object,
    read: Callable[[LayerDomain | InputDomain, object], Choice] = lambda domain, value: value,
    is_meant: Callable[[object, object], bool] = is_decision,
    what: str = "the architecture",
    when: When | None = None,
) -> dict[str, Choice]:
    """Return choices as ``{key: {"_value", "_idx"}}`` in the order of ``domains``, indices ascending.

    Keys that do not matter, by the conditions ``when``, may be missing: they get their first option.

    ``read`` returns what is given for a key as ``{"_idx": ...}``, or raises a ChoiceError; ``is_meant`` tells whether
    an entry under an unknown key is a mistake.

    Raises:
        ChoiceError: keys are missing or unknown, or a choice cannot be read or is not on offer; all of it is named.
    """
    if not isinstance(given, Mapping):
        raise ChoiceError(f"{what} is {given!r}, wanted an object {{key: choice}}.")
    problems = [f"unknown {key!r}" for key, value in given.items() if key not in domains and is_meant(key, value)]
    choices: dict[str, Choice] = {}
    for key in [key for key in domains if key in given]:
        try:
            choice = _respell(key, read(domains[key], given[key]))
            wrong = domains[key].problems(choice)
        except ChoiceError as error:
            wrong = error.problems or [str(error)]
        problems += [f"{key!r}: {problem}" for problem in wrong]
        if not wrong:
            choices[key] = domains[key].choice(domains[key].token(choice))
    tokens = {key: domains[key].token(choice) for key, choice in choices.items()}
    missing = [key for key in domains if key not in given]
    needed = set(Space(domains, when).active_keys(tokens) if when and missing else domains)
    problems = [f"missing {key!r}" for key in missing if key in needed] + problems
    if problems:
        raise ChoiceError(f"{what} does not fit this model ({len(problems)} wrong):", problems)
    return {key: choices[key] if key in choices else domain.choice(0) for key, domain in domains.items()}


def indices_of(choice: Choice) -> tuple[int, ...]:
    """Return the chosen indices, ascending, of a choice as :func:`read_choices` returns it."""
    index = choice["_idx"]
    return tuple(index) if isinstance(index, list) else (index,)


def to_choice(domain: LayerDomain | InputDomain, value: object) -> Choice:
    """Return ``{"_idx": ...}`` for a short notation, indices unchecked; what is an object already, as it is.

    A text is always a name, an int always an index: for the candidates ``{"1": a, "0": b}``, "1" is a and 1 is b. A
    mask is a list of bools, or of floats that are 0 or 1. Tensors and NumPy arrays are read as lists.
    """
    if isinstance(value, dict):
        return value
    names = domain.names if isinstance(domain, LayerDomain) else domain.candidates
    plain = to_list(value)
    several = isinstance(plain, list)
    if several and isinstance(value, _ARRAYS) and _is_ambiguous(plain, len(names)):
        raise ChoiceError(f"{plain} may be indices or a mask: give a list of indices, or a tensor of bools")
    if several and (is_mask(plain) or any(isinstance(item, float) for item in plain)):
        indices = _read_mask(names, plain)
    else:
        indices = [_index(names, item) for item in (plain if several else [plain])]
    if isinstance(domain, InputDomain):
        return {"_idx": indices}
    if len(indices) != 1:
        raise ChoiceError(f"{plain!r} chooses {len(indices)} candidates, wanted exactly one of {list(names)}")
    return {"_idx": indices[0]}


def to_list(value: Any) -> Any:
    """Return a tensor, an array or a tuple as a list, and NumPy's and torch's numbers as Python's."""
    if isinstance(value, (*_ARRAYS, np.generic)):
        return value.tolist()
    return [to_list(item) for item in value] if isinstance(value, (list, tuple)) else value


def is_mask(plain: object) -> bool:
    """Tell whether this is a list of bools, or of floats that are 0 or 1."""
    if not isinstance(plain, list) or not plain:
        return False
    return all(isinstance(item, bool) for item in plain) or all(
        isinstance(item, float) and item in (0.0, 1.0) for item in plain
    )


def _is_ambiguous(plain: list[object], n: int) -> bool:
    return 1 < len(plain) == n and all(is_int(item) and item in (0, 1) for item in plain)


def _read_mask(names: tuple[str, ...], mask: list[object]) -> list[int]:
    if not is_mask(mask):
        raise ChoiceError(f"{mask!r} are weights, wanted bools, or 0.0 and 1.0, one for each of {list(names)}")
    if len(mask) != len(names):
        kind = "bools" if isinstance(mask[0], bool) else "numbers"
        raise ChoiceError(f"{mask!r} has {len(mask)} {kind}, wanted {len(names)}, one for each of {list(names)}")
    return [index for index, chosen in enumerate(mask) if chosen]


def _index(names: tuple[str, ...], item: object) -> int:
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


def _respell(key: str, choice: Any) -> Any:
    """Return the choice with ``_idx`` for ``_idex``, as NNI's documentation spells it."""
    if not isinstance(choice, dict) or "_idx" in choice or "_idex" not in choice:
        return choice
    warnings.warn(f"the choice of {key!r} has _idex; it is read as _idx: write that.", stacklevel=4)
    return {"_idx" if name == "_idex" else name: value for name, value in choice.items()}
