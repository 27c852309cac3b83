"""Build modules by classes and functions that a mapping names; what does not fit is reported before the call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from mutators.choices.errors import ChoiceError
from mutators.subnet.trust import FactoryError, find_factory


def to_callable(given: Any, known: Mapping[str, Callable[..., Any]] | None = None) -> Callable[..., Any]:
    """Return a class or function that is given itself, as "module:function", or by a name in ``known``.

    Raises:
        ChoiceError: it is nothing of these; ``problems`` says what it is.
    """
    names = "".join(f", {name!r}" for name in known or {})
    if isinstance(given, str) and given in (known or {}):
        return (known or {})[given]
    if isinstance(given, str) and ":" in given:
        try:
            return find_factory(given)
        except FactoryError as error:
            raise ChoiceError("", [str(error)]) from error
    if not callable(given):
        got = "it is missing" if given is None else f"it is {given!r}"
        raise ChoiceError("", [f'{got}, wanted a class, a function, "module:function"{names}'])
    found: Callable[..., Any] = given
    return found


def build_module(factory: Callable[..., Any], arguments: Mapping[str, Any]) -> nn.Module:
    """Return the module that ``factory`` builds.

    Raises:
        ChoiceError: arguments are missing or unknown, the call failed, or it returned something else; ``problems``
            says which.
    """
    wrong = argument_problems(factory, arguments)
    if wrong:
        raise ChoiceError("", wrong)
    try:
        built = factory(**arguments)
    except Exception as error:  # whatever the author's code raises, the reader has to learn which place it was
        raise ChoiceError("", [f"{_name(factory)} failed: {type(error).__name__}: {error}"]) from error
    if not isinstance(built, nn.Module):
        raise ChoiceError("", [f"{_name(factory)} returned a {type(built).__name__}, wanted an nn.Module"])
    return built


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
