"""Say what a search got wrong: what, got, wanted. Checks raise, since Python with ``-O`` skips ``assert``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeVar

from search_spaces.errors import shorten
from search_spaces.resolve import FAILURES, reason_of

_MOST = 200  # characters of a value in a message

Made = TypeVar("Made")
Check = Callable[[Callable[[], Made]], None]
"""Takes what makes a search, or a tuner, and raises AssertionError if that breaks a promise."""


def reporting(check: Check[Made]) -> Check[Made]:
    """Let a check raise AssertionError, too, for whatever else a search raises in it."""

    @wraps(check)
    def run(make: Callable[[], Made]) -> None:
        try:
            check(make)
        except AssertionError:
            raise
        except FAILURES as error:
            raise AssertionError(f"it raised {find_reason(error)}") from error

    return run


def find_reason(error: BaseException) -> str:
    """Return what went wrong, and where: in the user's own code, if the error is only what a search made of it."""
    return reason_of(error.__cause__ or error)


def expect(what: str, got: object, wanted: object) -> None:
    """Raise AssertionError unless both are equal."""
    if got != wanted:
        raise AssertionError(f"{what}: got {shorten(got, _MOST)}, wanted {shorten(wanted, _MOST)}.")


def expect_same(what: str, got: Sequence[object], wanted: Sequence[object]) -> None:
    """Raise AssertionError unless both have the same items in the same order; the first that differs is named."""
    for at, (one, other) in enumerate(zip(got, wanted, strict=False)):
        expect(f"{what}, number {at}", one, other)
    expect(f"{what}, their number", len(got), len(wanted))


def expect_distinct(what: str, got: Sequence[object]) -> None:
    """Raise AssertionError if an item comes twice."""
    seen: dict[object, int] = {}
    for at, item in enumerate(got):
        if seen.setdefault(item, at) != at:
            raise AssertionError(f"{what}: got {shorten(item, _MOST)} as number {seen[item]} and {at}, wanted it once.")


def expect_error(what: str, call: Callable[[], object], *kinds: type[Exception]) -> None:
    """Raise AssertionError unless a call raises an error of one of these kinds."""
    try:
        got = call()
    except kinds:
        return
    names = " or ".join(kind.__name__ for kind in kinds)
    raise AssertionError(f"{what}: got {shorten(got, _MOST)}, wanted {names}.")
