"""Find functions and classes by name, "module:function", and say in a line what went wrong in them."""

from __future__ import annotations

import difflib
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

_REASON = 500  # characters of an error that are kept
FAILURES = (Exception, SystemExit)  # whatever a user's code raises: sys.exit does not end our process, Ctrl-C does


def resolve(name: str, raising: type[Exception] = ValueError, separator: str = ":") -> Callable[..., Any]:
    """Return the function or class that a name such as ``trial:build`` says, not called.

    Its module is imported: give no name that comes from a file, unless the file is trusted.

    Args:
        name: ``module:function``.
        raising: class of the error if there is none.
        separator: what stands between module and function.

    >>> resolve("math:sqrt")(4.0)
    2.0
    >>> resolve("math:sqr")
    Traceback (most recent call last):
    ValueError: math:sqr cannot be found: math has no sqr; did you mean math:sqrt?
    """
    module, _, attribute = name.rpartition(separator)
    if not all(part.isidentifier() for part in [*module.split("."), attribute]):
        raise raising(f'the function is named {name!r}, wanted "module{separator}function".')
    try:
        home = import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also sys.exit, and what a user derived from BaseException
        missing = isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0])
        hint = "; the folder that holds it has to be the current one or on PYTHONPATH" if missing else ""
        raise raising(f"{name} cannot be imported: {reason_of(error)}{hint}.") from error
    value = getattr(home, attribute, None)
    if callable(value):
        return value  # type: ignore[no-any-return]
    if hasattr(home, attribute):
        raise raising(f"{name} is of type {type(value).__name__}, wanted a function or a class.")
    known = {key for key, it in vars(home).items() if callable(it)}.union(getattr(home, "__all__", ()))
    near = difflib.get_close_matches(attribute, sorted(known), n=1)
    hint = f"; did you mean {module}{separator}{near[0]}?" if near else "."
    raise raising(f"{name} cannot be found: {module} has no {attribute}{hint}")


def look_in(folder: str | Path) -> None:
    """Let the modules of a folder be imported, before others of the same name."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def reason_of(error: BaseException) -> str:
    """Return one line: what was raised, and where.

    >>> reason_of(ValueError("too wide"))
    'ValueError: too wide'
    """
    try:
        said = " ".join(str(error).split())[:_REASON]
    except Exception as wrong:
        said = f"its own text cannot be made: {type(wrong).__name__}"
    frames = traceback.extract_tb(error.__traceback__)
    is_known = len(frames) > 1 and not isinstance(error, SyntaxError)  # which names the place itself
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if is_known else ""
    return type(error).__name__ + (f": {said}" if said else "") + where
