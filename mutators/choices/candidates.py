"""What choices are made from: the container of a layer choice's candidates, and what may be offered at all."""

from __future__ import annotations

from typing import Any

from torch import nn

from mutators.choices.errors import ChoiceError
from search_spaces.checks import is_int

NO_KEY = ""
"""In ``choose_from``: an input that is no mutable's output, or whose origin does not matter."""


class Candidates(nn.Module):
    """Named modules, in order.

    Not an ``nn.ModuleDict``: that refuses names such as ``keys``, ``type`` or ``forward``. The names here live in
    ``_modules`` only and are never looked up as attributes, so they cannot clash with anything.
    """

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        super().__init__()
        self._modules.update(modules)

    def train(self, mode: bool = True) -> Candidates:
        """As ``nn.Module.train``, which sets ``self.training``: that fails if a candidate has this name."""
        if not isinstance(mode, bool):
            raise ValueError(f"training mode is expected to be a bool, got {mode!r}")
        self.__dict__["training"] = mode
        for module in self.children():
            module.train(mode)
        return self

    def forward(self, *_: Any) -> Any:
        """Never called: the choice calls its candidates."""
        raise NotImplementedError("call the LayerChoice, not the container of its candidates")


def named_candidates(offered: Any) -> dict[str, nn.Module]:
    """Return the candidates of a layer choice by name.

    Args:
        offered: a list, whose names are "0", "1", ..., or a dict of names.

    Raises:
        TypeError: it is neither, or a candidate is no module, or a name is no text; all of them are named.
        ChoiceError: there is no candidate, or a name is empty or holds a dot; all of them are named.
    """
    if not isinstance(offered, (list, dict)):
        raise TypeError(f"op_candidates is a {type(offered).__name__}, wanted a list or a dict of modules.")
    if not offered:
        raise ChoiceError("op_candidates is empty, wanted at least one module.")
    named = dict(offered) if isinstance(offered, dict) else {str(i): module for i, module in enumerate(offered)}
    wrong = [
        f"the name {name!r} is a {type(name).__name__}, wanted a str" for name in named if not isinstance(name, str)
    ]
    wrong += [
        f"candidate {name!r} is {_kind(module)}, wanted an nn.Module"
        for name, module in named.items()
        if not isinstance(module, nn.Module)
    ]
    if wrong:
        raise TypeError("op_candidates do not fit: " + "; ".join(wrong) + ".")
    unusable = [
        f"{name!r} cannot be the name of a module, wanted a name without dots" for name in named if not _fits(name)
    ]
    if unusable:
        raise ChoiceError("op_candidates cannot be named like this:", unusable)
    return named


def input_names(n_candidates: Any, choose_from: Any, n_chosen: Any) -> list[str]:
    """Return the names of an input choice's candidates.

    Raises:
        ChoiceError: its three arguments are wrong or do not fit together; all that is wrong is listed.
    """
    names, problems = _names_of(n_candidates, choose_from)
    bounds = n_chosen if isinstance(n_chosen, (tuple, list)) else (n_chosen, n_chosen)
    if n_chosen is not None and not (len(bounds) == 2 and all(is_int(b) for b in bounds)):
        problems.append(f"n_chosen is {n_chosen!r}, wanted an int, two of them (lowest, highest), or None")
    elif n_chosen is not None and names and not 0 <= bounds[0] <= bounds[1] <= len(names):
        problems.append(f"n_chosen is {n_chosen!r}, wanted 0 to {len(names)}, or (lowest, highest) within that")
    if problems:
        raise ChoiceError("this InputChoice cannot be:", problems)
    return names


def _names_of(n_candidates: Any, choose_from: Any) -> tuple[list[str], list[str]]:
    """Return the inputs' names, as far as they are known, and what is wrong with them."""
    problems = []
    counted = is_int(n_candidates) and n_candidates > 0
    if n_candidates is not None and not counted:
        problems.append(f"n_candidates is {n_candidates!r}, wanted an int of at least 1")
    if choose_from is None:
        if n_candidates is None:
            problems.append("neither n_candidates nor choose_from is given, wanted one of them")
        return [NO_KEY] * n_candidates if counted else [], problems
    if (
        not isinstance(choose_from, (list, tuple))
        or not choose_from
        or not all(isinstance(n, str) for n in choose_from)
    ):
        return [], [*problems, f"choose_from is {choose_from!r}, wanted a list of at least one key"]
    if counted and n_candidates != len(choose_from):
        problems.append(f"n_candidates is {n_candidates}, but choose_from has {len(choose_from)} keys")
    return list(choose_from), problems


def _fits(name: str) -> bool:
    return bool(name) and "." not in name


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
