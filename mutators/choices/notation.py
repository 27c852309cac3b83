"""Read choices in the notations in which they are given, against what a model offers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from mutators.choices.errors import ChoiceError
from search_spaces.checks import is_int
from search_spaces.domains import Choice, InputDomain, LayerDomain
from search_spaces.schema import Space, When

_FIELDS = {"_idx", "_value", "_idex"}


def is_decision(key: Any, value: Any) -> bool:
    """Tell whether an entry was meant for a model, and is not the tuner's own or a hyper-parameter."""
    return not str(key).startswith("_") and isinstance(value, dict) and not _FIELDS.isdisjoint(value)


def read_choices(
    domains: Mapping[str, LayerDomain | InputDomain],
    given: Any,
    read: Callable[[LayerDomain | InputDomain, Any], Choice] = lambda domain, value: value,
    is_meant: Callable[[Any, Any], bool] = is_decision,
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


def to_choice(domain: LayerDomain | InputDomain, value: Any) -> Choice:
    """Return ``{"_idx": ...}`` for a short notation, indices unchecked; what is an object already, as it is.

    A text is always a name, an int always an index: for the candidates ``{"1": a, "0": b}``, "1" is a and 1 is b.
    """
    if isinstance(value, dict):
        return value
    names = domain.names if isinstance(domain, LayerDomain) else domain.candidates
    several = isinstance(value, (list, tuple))
    if several and value and all(isinstance(item, bool) for item in value):
        if len(value) != len(names):
            raise ChoiceError(f"{value!r} has {len(value)} bools, wanted {len(names)}, one for each of {list(names)}")
        indices = [index for index, chosen in enumerate(value) if chosen]
    else:
        indices = [_index(names, item) for item in (value if several else [value])]
    if isinstance(domain, InputDomain):
        return {"_idx": indices}
    if len(indices) != 1:
        raise ChoiceError(f"{value!r} chooses {len(indices)} candidates, wanted exactly one of {list(names)}")
    return {"_idx": indices[0]}


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


def _respell(key: str, choice: Any) -> Any:
    """Return the choice with ``_idx`` for ``_idex``, as NNI's documentation spells it."""
    if not isinstance(choice, dict) or "_idx" in choice or "_idex" not in choice:
        return choice
    warnings.warn(f"the choice of {key!r} has _idex; it is read as _idx: write that.", stacklevel=4)
    return {"_idx" if name == "_idex" else name: value for name, value in choice.items()}
