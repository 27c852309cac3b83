"""Find and call factories by name: the one way by which a saved file gets a function called.

A saved file is data, and may come from anywhere: what it names is looked for only by the rule of
:mod:`search_spaces.trust`. Even then a factory has to be a class of modules, or a function annotated to return one,
which is checked before it is called; its module is imported for that.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from os import PathLike
from threading import get_ident
from types import FunctionType

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

import search_spaces
from search_spaces.checks import is_number
from search_spaces.resolve import FAILURES, reason_of, resolve
from search_spaces.trust import require_trust

Factory = Callable[..., nn.Module]

_OURS = ("search_spaces:build", "search_spaces.nets.registry:build")
_LARGEST = 100_000  # number in a file's arguments for a net of ours; they are sizes, but for the seed
_MOST_PARAMETERS = 1 << 28  # of a net of ours: a gigabyte
_MOST_MODULES = 1 << 15  # as many take seconds and some hundred megabytes to build; the published ones have thousands


class FactoryError(ValueError):
    """A factory cannot be named, found or trusted."""


def name_factory(factory: str | Factory) -> str:
    """Return the name by which another process can find a factory again, or raise a FactoryError.

    It is "module:function", or the name of one of our nets.
    """
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
    if (net := _net_of(f"{module}:{name}", {})) and resolve(f"{module}:{name}") is factory:
        return net[0]
    if find_factory(f"{module}:{name}") is not factory:
        raise FactoryError(f"{module}:{name} is not this factory, {factory!r}, but something else of the same name.")
    return f"{module}:{name}"


def find_factory(name: str) -> Factory:
    """Return the factory that "module:function" or one of our nets' names means, not called.

    Raises FactoryError if it is none.
    """
    if name in search_spaces.names():
        return partial(search_spaces.build, name)
    if name in _OURS:
        return search_spaces.build
    found = resolve(name, FactoryError)
    if not _returns_module(found, name):
        raise FactoryError(
            f"{name} is not called, since nothing says that it builds a model: annotate the function to return an "
            "nn.Module (def build(...) -> nn.Module), or give a class of modules."
        )
    return found


def call_factory(name: str, arguments: Mapping[str, object]) -> nn.Module:
    """Return the model that the named factory builds; raise a FactoryError as its two parts do."""
    return run_factory(find_factory(name), arguments, f"{name}(**{dict(arguments)!r})")


def call_named(
    name: str, arguments: Mapping[str, object], trust_code: bool, file: PathLike[str], *ways: str
) -> nn.Module:
    """Return the model that a factory builds whose name and arguments stand in a file.

    Args:
        name: of one of our nets; or of anything, for a caller who trusts the file.
        arguments: by keyword.
        trust_code: whether the caller does.
        file: for the message.
        ways: what the caller could write instead.

    Raises:
        TrustError: it is no net of ours, and not trusted: nothing was imported.
        FactoryError: as of :func:`call_factory`, or a size for a net of ours is beyond reason.
    """
    if (net := _net_of(name, arguments)) is None:
        require_trust(trust_code, file, f"{name!r} to be called", *ways)
        return call_factory(name, arguments)
    if large := sorted(key for key, value in net[1].items() if key != "seed" and _is_large(value)):
        raise FactoryError(f"{file}: {', '.join(large)}: wanted no number and no list beyond {_LARGEST:,}.")
    with torch.device("meta"), _counting_modules(file):  # takes no memory
        size = sum(parameter.numel() for parameter in call_factory(*net).parameters())
    if size > _MOST_PARAMETERS:
        raise FactoryError(f"{file} describes a network of {size:,} parameters, wanted at most {_MOST_PARAMETERS:,}.")
    return call_factory(*net)


@contextmanager
def _counting_modules(file: PathLike[str]) -> Iterator[None]:
    """Raise a FactoryError from within whatever this thread builds once that has too many modules."""
    left, thread = iter(range(_MOST_MODULES)), get_ident()

    def count(*_: object) -> None:
        if get_ident() == thread and next(left, None) is None:
            raise FactoryError(f"{file} describes a network of more modules than {_MOST_MODULES:,}.")

    handle = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _net_of(name: str, arguments: Mapping[str, object]) -> tuple[str, dict[str, object]] | None:
    """Return the name of a net of ours and its own arguments; None if a factory is something else."""
    given = dict(arguments)
    if name in _OURS:
        name = str(given.pop("name", None))
    elif match := re.fullmatch(r"search_spaces\.nets\.(\w+):build", name):
        name = match[1]
    return (name, given) if name in search_spaces.names() else None


def _is_large(value: object) -> bool:
    if isinstance(value, Mapping):
        return _is_large([*value.values()])
    if isinstance(value, list):
        return len(value) > _LARGEST or any(map(_is_large, value))
    return isinstance(value, (int, float)) and not ((is_number(value) and abs(value) <= _LARGEST) or value in (0, 1))


def run_factory(factory: Callable[..., object], arguments: Mapping[str, object], shown: str) -> nn.Module:
    """Return the model that a factory builds, or raise a FactoryError that shows the call as ``shown``."""
    try:
        model = factory(**arguments)
    except FAILURES as error:  # whatever the author's code raises, the reader has to learn which call it was
        raise FactoryError(f"{shown} failed: {reason_of(error)}") from error
    if not isinstance(model, nn.Module):
        raise FactoryError(f"{shown} returned a {type(model).__name__}, wanted an nn.Module")
    return model


def to_json_arguments(arguments: object) -> dict[str, object]:
    """Return keyword arguments as JSON gives them back, or raise a FactoryError if it does not."""
    if not isinstance(arguments, Mapping) or not all(isinstance(key, str) for key in arguments):
        raise FactoryError(f"factory_args is {arguments!r}, wanted a dict of keyword arguments.")
    try:
        return dict(json.loads(json.dumps(dict(arguments))))
    except (TypeError, ValueError) as error:
        raise FactoryError(f"factory_args {dict(arguments)!r} cannot be written as JSON: {error}.") from None


def _returns_module(found: object, name: str) -> bool:
    if isinstance(found, type):
        return issubclass(found, nn.Module)
    if not isinstance(found, FunctionType):
        return False
    try:
        returned = typing.get_type_hints(found).get("return")
    except Exception as error:  # annotations may hold any expression
        raise FactoryError(f"the annotations of {name} cannot be read: {type(error).__name__}: {error}.") from error
    return isinstance(returned, type) and issubclass(returned, nn.Module)
