"""Say where to give an argument that another system's class of the same name takes here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from search_spaces.errors import ProblemsError

T = TypeVar("T")


def moved_arguments(error: type[ProblemsError], **places: str) -> Callable[[type[T]], type[T]]:
    """Let a class raise ``error`` for arguments that it does not have, and say by name where they belong."""

    def decorate(cls: type[T]) -> type[T]:
        init = cls.__init__

        @functools.wraps(init)
        def __init__(self: T, *args: Any, **kwargs: Any) -> None:
            problems = [f"it takes no {name}: {places[name]}" for name in kwargs if name in places]
            if problems:
                raise error(f"{cls.__name__} cannot be made like this ({len(problems)} wrong):", problems)
            init(self, *args, **kwargs)

        cls.__init__ = __init__  # type: ignore[assignment]
        return cls

    return decorate
