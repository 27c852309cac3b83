"""Load the names of a package when they are first used, so that importing the package is quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_names(
    package: str, moved: Mapping[str, str] | None = None
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__getattr__``, which knows ``__all__`` too, and ``__dir__`` of a package whose names live elsewhere.

    Which names, and where, its stub says, for type checkers and for this function alike: in ``__init__.pyi``, a line
    ``from package.module import name as name`` each. It is read when a name is first asked for.

    Args:
        package: its ``__name__``.
        moved: names that were public here before, and the full names that they have now. They still load, with a
            DeprecationWarning that says what to write.
    """

    found: dict[str, str] = {}

    def homes() -> dict[str, str]:
        if not found:
            with open(f"{import_module(package).__file__}i", encoding="utf-8") as stub:  # __init__.pyi, beside this
                found.update((name, module) for _, module, _, name, *_ in map(str.split, stub))
        return found

    def load(name: str) -> object:
        if moved and name in moved:
            module, _, new = moved[name].rpartition(".")
            import warnings  # costs more than all else here

            message = f"{package}.{name} has moved: write `from {module} import {new}`."
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return getattr(import_module(module), new)
        if name == "__all__":
            return sorted(homes())
        if name.startswith("__") or name not in homes():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes()[name]), name)

    return load, lambda: sorted(homes())
