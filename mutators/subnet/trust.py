"""Find and call factories by name: the one way by which a saved file gets a function called.

A saved file is data, and may come from anywhere. So that it cannot call ``os:system``, a factory has to be a class of
modules, or a function annotated to return one, which is checked before it is called. Its module is imported for that:
only load folders that name modules which you would import yourself.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

from torch import nn

from search_spaces.resolve import FAILURES, reason_of, resolve

Factory = Callable[..., nn.Module]


class FactoryError(ValueError):
    """A factory cannot be named, found or trusted."""


def name_factory(factory: str | Factory) -> str:
    """Return "module:function" for a factory that another process can find again by it, or raise a FactoryError."""
    if isinstance(factory, str):
        find_factory(factory)
        return factory
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise FactoryError(
            f"the factory {factory!r} has no name: write a function at the top of a module and give that."
        )
    if module == "__main__" or not name.isidentifier():
        where = "in __main__" if module == "__main__" else "a lambda, local or nested"
        raise FactoryError(
            f"the factory {name!r} is {where}, where a later process cannot find it: move it to the top of a module "
            'that can be imported, and give it as "module:function".'
        )
    if find_factory(f"{module}:{name}") is not factory:
        raise FactoryError(f"{module}:{name} is not this factory, {factory!r}, but something else of the same name.")
    return f"{module}:{name}"


def find_factory(name: str) -> Factory:
    """Return the factory that "module:function" names, not called, or raise a FactoryError if it is none."""
    found = resolve(name, FactoryError)
    if not _returns_module(found, name):
        raise FactoryError(
            f"{name} is not called, since nothing says that it builds a model: annotate the function to return an "
            "nn.Module (def build(...) -> nn.Module), or give a class of modules."
        )
    return found


def call_factory(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return the model that the named factory builds; raise a FactoryError as its two parts do."""
    return run_factory(find_factory(name), arguments, f"{name}(**{dict(arguments)!r})")


def run_factory(factory: Callable[..., Any], arguments: Mapping[str, Any], shown: str) -> nn.Module:
    """Return the model that a factory builds, or raise a FactoryError that shows the call as ``shown``."""
    try:
        model = factory(**arguments)
    except FAILURES as error:  # whatever the author's code raises, the reader has to learn which call it was
        raise FactoryError(f"{shown} failed: {reason_of(error)}") from error
    if not isinstance(model, nn.Module):
        raise FactoryError(f"{shown} returned a {type(model).__name__}, wanted an nn.Module")
    return model


def to_json_arguments(arguments: Any) -> dict[str, Any]:
    """Return keyword arguments as JSON gives them back, or raise a FactoryError if it does not."""
    if not isinstance(arguments, Mapping) or not all(isinstance(key, str) for key in arguments):
        raise FactoryError(f"factory_args is {arguments!r}, wanted a dict of keyword arguments.")
    try:
        return dict(json.loads(json.dumps(dict(arguments))))
    except (TypeError, ValueError) as error:
        raise FactoryError(f"factory_args {dict(arguments)!r} cannot be written as JSON: {error}.") from None


def _returns_module(found: Any, name: str) -> bool:
    if isinstance(found, type):
        return issubclass(found, nn.Module)
    if not isinstance(found, FunctionType):
        return False
    try:
        returned = typing.get_type_hints(found).get("return")
    except Exception as error:  # annotations may hold any expression
        raise FactoryError(f"the annotations of {name} cannot be read: {type(error).__name__}: {error}.") from error
    return isinstance(returned, type) and issubclass(returned, nn.Module)
