"""Functions whose results or errors have ended searches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class NoRepr:
    def __repr__(self) -> str:
        raise ValueError("no repr")


class NoText(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class OfItsOwn(BaseException):
    """No Exception: ``except Exception`` lets it pass."""


class Endless(float):
    def __float__(self) -> float:
        raise RuntimeError("no number")


class NoItems(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise OSError("no item")

    def __iter__(self) -> Iterator[str]:
        raise OSError("no keys")

    def __len__(self) -> int:
        return 1


class NoAttributes:
    def __getattr__(self, name: str) -> Any:
        raise OfItsOwn("no attributes")


def returns_a_huge_int(choices: Any) -> Any:
    return {"default": 1, "n": 10**5000}


def returns_a_huge_metric(choices: Any) -> Any:
    return 10**5000


def returns_a_list_that_holds_itself(choices: Any) -> Any:
    held: list[Any] = []
    held.append(held)
    return {"default": 1, "held": held}


def returns_a_dict_that_holds_itself(choices: Any) -> Any:
    held: dict[str, Any] = {"default": 1}
    held["held"] = held
    return held


def returns_a_deep_list(choices: Any) -> Any:
    deep: list[Any] = []
    for _ in range(10**5):
        deep = [deep]
    return {"default": 1, "deep": deep}


def returns_no_repr(choices: Any) -> Any:
    return {"default": 1, "object": NoRepr()}


def returns_no_repr_as_metric(choices: Any) -> Any:
    return NoRepr()


def returns_a_key_without_text(choices: Any) -> Any:
    return {"default": 1, NoRepr(): 2}


def returns_no_number(choices: Any) -> Any:
    return Endless(1)


def returns_no_items(choices: Any) -> Any:
    return NoItems()


def returns_a_long_text(choices: Any) -> Any:
    return "x\n" * 10**6


def raises_no_text(choices: Any) -> Any:
    raise NoText


def raises_a_long_text(choices: Any) -> Any:
    raise ValueError("x\n" * 10**6)


def raises_a_surrogate(choices: Any) -> Any:
    raise ValueError("\ud800 is half a character")


def raises_of_its_own(choices: Any) -> Any:
    raise OfItsOwn("not an Exception")


def raises_in_its_result(choices: Any) -> Any:
    return {"default": 1, "object": NoAttributes()}


def raises_exit(choices: Any) -> Any:
    raise SystemExit(0)


def raises_generator_exit(choices: Any) -> Any:
    raise GeneratorExit("closed")


def raises_recursion(choices: Any) -> Any:
    return raises_recursion(choices)
