"""Copy a model in such a way that each choice, and each elastic layer, becomes what it is once everything is chosen."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from mutators.choices.torch_private import get_children

Plan = Mapping[int, tuple[int, ...]]
"""Chosen indices by ``id(choice)``."""

_Part = TypeVar("_Part")


class Extractable:
    """A part of a model that takes another form in an extracted network.

    Attributes:
        is_fixed: it has that form already and is copied as it is.
    """

    is_fixed = False

    def extracted(self, extraction: Extraction) -> object:
        """Return the form in the extracted network. Children are copied by :meth:`Extraction.copy`."""
        raise NotImplementedError


class Extraction:
    """Visits a model's parts, each once, and copies them; the originals stay as they are.

    A part is copied when something that is kept refers to it, be it as a submodule or from anywhere else. So nothing
    that is not chosen is copied, and what was shared is shared in the copy too.

    Args:
        model: the whole of what is to be copied.
        plan: what is chosen.
        in_place: make only the choices of the plan plain; all other modules are the model's own.
    """

    def __init__(self, model: nn.Module, plan: Plan, in_place: bool = False) -> None:
        self.plan, self.in_place = plan, in_place
        modules = list(model.modules())
        attributes = (value for module in modules for value in vars(module).values())
        parts = [*modules, *(value for value in attributes if not isinstance(value, nn.Module))]
        self._extractable = {id(p): p for p in parts if isinstance(p, Extractable) and not p.is_fixed}
        self._stubborn = {id(module): module for module in modules if self._copies_itself(module)}
        self._described: set[int] = set()
        self._memo = _Memo(self)
        if in_place:
            self._memo.update((id(module), module) for module in modules if id(module) not in plan)

    def copy(self, part: _Part) -> _Part:
        """Return the form of a part of the model, which may also be a list or dict of such; the same at each call."""
        return copy.deepcopy(part, self._memo)

    def put(self, part: object, form: _Part) -> _Part:
        """Make ``form`` what ``part`` becomes, before it is complete, so that parts may refer to each other."""
        made: _Part = self._memo.setdefault(id(part), form)
        return made

    def describe(self, layer: nn.Module, names: list[str], index: int) -> nn.Module:
        """Let a chosen layer say what it was chosen from, as the choice did: ``names`` and ``chosen``.

        Names that the layer has itself are its own. Of choices within choices the outermost counts, which is the one
        that the rest of the model reads.
        """
        facts = {"names": names, "chosen": (index,)}
        if id(layer) in self._described or not any(hasattr(layer, name) for name in facts):
            vars(layer).update(facts)
            self._described.add(id(layer))
        return layer

    def visit(self, identity: int) -> None:
        """Copy the part with this ``id()`` unless deepcopy can, by its own rules."""
        if identity in self._extractable:
            part = self._extractable[identity]
            self.put(part, part.extracted(self))
        elif identity in self._stubborn:
            self._copy_stubborn(self._stubborn.pop(identity))

    def _copies_itself(self, module: nn.Module) -> bool:
        """Tell whether a module has a ``__deepcopy__`` of its own, and parts that take another form."""
        return (
            hasattr(module, "__deepcopy__")
            and id(module) not in self._extractable
            and any(id(inner) in self._extractable for inner in module.modules())
        )

    def _copy_stubborn(self, module: nn.Module) -> None:
        """Copy a module by its ``__deepcopy__`` if that passes the memo on, and else attribute by attribute."""
        before = dict(self._memo)
        try:
            made = module.__deepcopy__(self._memo)  # type: ignore[operator]
            done = isinstance(made, nn.Module) and not any(map(_is_left, made.modules()))
        except Exception:  # whatever the author's code raises: the other way may still work
            done = False
        if done:
            self._memo[id(module)] = made
            return
        self._memo.clear()
        self._memo.update(before)
        shell = self._memo[id(module)] = type(module).__new__(type(module))
        vars(shell).update(self.copy(vars(module)))


def replace_choices(model: nn.Module, plan: Plan) -> nn.Module:
    """Put the plain forms of choices in their places, in the model itself. Copies nothing.

    Returns: the model, or its plain form if it is a choice itself.
    """
    extraction = Extraction(model, plan, in_place=True)
    modules = list(model.modules())
    for module in modules:
        for name, child in get_children(module).items():
            get_children(module)[name] = extraction.copy(child)
    return extraction.copy(model)


class _Memo(dict[int, Any]):
    """A deepcopy's memo, by ``id()``, that lets the extraction copy first what it has a form for."""

    def __init__(self, extraction: Extraction) -> None:
        self._extraction = extraction

    def get(self, key: int, default: Any = None) -> Any:
        if key not in self:
            self._extraction.visit(key)
        return super().get(key, default)


def _is_left(module: nn.Module) -> bool:
    return isinstance(module, Extractable) and not module.is_fixed
