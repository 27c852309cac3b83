"""Build modules by classes and functions that a mapping names; what does not fit is reported before the call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from mutators.choices.errors import ChoiceError
from mutators.subnet.trust import FactoryError, find_factory, run_factory


def to_callable(given: Any, known: Mapping[str, Callable[..., Any]] | None = None) -> Callable[..., Any]:
    """Return a class or function that is given itself, as "module:function", or by a name in ``known``.

    Raises:
        ChoiceError: it is nothing of these; ``problems`` says what it is.
    """
    known = known or {}
    if isinstance(given, str) and given in known:
        return known[given]
    if isinstance(given, str) and ":" in given:
        try:
            return find_factory(given)
        except FactoryError as error:
            raise ChoiceError("", [str(error)]) from error
    if not callable(given):
        got = "it is missing" if given is None else f"it is {given!r}"
        names = "".join(f", {name!r}" for name in known)
        raise ChoiceError("", [f'{got}, wanted a class, a function, "module:function"{names}'])
    found: Callable[..., Any] = given
    return found


def build_module(factory: Callable[..., Any], arguments: Mapping[str, Any]) -> nn.Module:
    """Return the module that ``factory`` builds, or raise a ChoiceError whose ``problems`` say what is wrong."""
    if wrong := argument_problems(factory, arguments):
        raise ChoiceError("", wrong)
    try:
        return run_factory(factory, arguments, _name(factory))
    except FactoryError as error:
        raise ChoiceError("", [str(error)]) from error.__cause__


def argument_problems(factory: Callable[..., Any], arguments: Mapping[str, Any]) -> list[str]:
    """List the keyword arguments that ``factory`` lacks or does not take; nothing if its signature is not known."""
    try:
        known = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return []
    named = {p.name: p for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    found = [
        f"{_name(factory)} lacks the argument {name!r}"
        for name, p in named.items()
        if p.default is p.empty and name not in arguments
    ]
    if not any(p.kind is p.VAR_KEYWORD for p in known):
        takes = ", ".join(named) or "none"
        found += [f"{_name(factory)} takes no {name!r}, only {takes}" for name in arguments if name not in named]
    return found


def _name(factory: Any) -> str:
    return getattr(factory, "__name__", None) or repr(factory)
