"""Load the names of a package when they are first used, so that importing the package is quick."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_names(
    package: str, moved: Mapping[str, str] | None = None, more: Mapping[str, str] | None = None
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__all__``, ``__getattr__`` and ``__dir__`` of a package whose names live in other modules.

    Which names, and where, its stub says, for type checkers and for this function alike: in ``__init__.pyi``, a line
    ``from package.module import name as name`` each.

    Args:
        package: its ``__name__``.
        moved: names that were public here before, and the full names that they have now. They still load, with a
            DeprecationWarning that says what to write.
        more: names that a table holds, whether the stub lists them or not, and their modules.
    """
    stub = Path(str(import_module(package).__file__)).with_suffix(".pyi")
    lines = [line.split() for line in stub.read_text(encoding="utf-8").splitlines()]
    home_of = {name: module for _, module, _, name, *_ in lines} | dict(more or {})

    def load(name: str) -> Any:
        if moved and name in moved:
            module, _, new = moved[name].rpartition(".")
            message = f"{package}.{name} has moved: write `from {module} import {new}`."
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return getattr(import_module(module), new)
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home_of[name]), name)

    return sorted(home_of), load, lambda: sorted(home_of)
