"""Copy a model in such a way that each choice, and each elastic layer, becomes what it is once everything is chosen."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from mutators.choices.torch_private import get_children

Plan = Mapping[int, tuple[int, ...]]
"""Chosen indices by ``id(choice)``."""

_Part = TypeVar("_Part")
_IMMUTABLE = {type(None), bool, int, float, str}


class Extractable:
    """A part of a model that takes another form in an extracted network.

    Attributes:
        is_fixed: it has that form already and is copied as it is.
    """

    is_fixed = False

    def find_choices(self) -> tuple[nn.Module, ...]:
        """Return the choices that decide how this runs, wherever they stand."""
        return ()

    def gates(self) -> dict[int, tuple[nn.Module, frozenset[int]]]:
        """Return for parts that do not always run, by ``id``: the choice that decides it, and its indices."""
        return {}

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
        self._described: set[int] = set()
        self.rules: dict[int, tuple[Callable[[Any], None], object]] = {}
        self._memo = _Memo(self)
        modules = list(model.modules())
        if in_place:
            self._memo.update({id(module): module for module in modules if id(module) not in plan})
        facts = (fact for module in modules for fact in vars(module).values() if isinstance(fact, Extractable))
        for part in [*modules, *(fact for fact in facts if not isinstance(fact, nn.Module))]:
            rule = self._rule_of(part)
            if rule is not None:
                self.rules[id(part)] = (rule, part)

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
        if id(layer) in self._described or not (hasattr(layer, "names") or hasattr(layer, "chosen")):
            vars(layer).update(facts)
            self._described.add(id(layer))
        return layer

    def _rule_of(self, part: object) -> Callable[[Any], None] | None:
        """Return the rule by which a part is copied; None: by deepcopy's own."""
        if isinstance(part, Extractable) and not part.is_fixed:
            return self._extract
        if not isinstance(part, nn.Module):
            return None
        if hasattr(type(part), "__deepcopy__"):
            return self._copy_stubborn if any(map(_takes_other_form, part.modules())) else None
        return self._copy_attributes if _is_ordinary(type(part)) else None

    def _extract(self, part: Extractable) -> None:
        self.put(part, part.extracted(self))

    def _copy_attributes(self, module: nn.Module) -> None:
        """Copy a module as deepcopy does, in half the time: most attributes are empty dicts of hooks, or numbers."""
        made = self._memo[id(module)] = type(module).__new__(type(module))
        copied = {}
        for name, value in module.__getstate__().items():  # type: ignore[no-untyped-call]
            if type(value) is OrderedDict and not value:
                copied[name] = self._memo.setdefault(id(value), OrderedDict())
            else:
                copied[name] = value if type(value) in _IMMUTABLE else copy.deepcopy(value, self._memo)
        made.__setstate__(copied)  # type: ignore[no-untyped-call]

    def _copy_stubborn(self, module: nn.Module) -> None:
        """Copy a module by its ``__deepcopy__`` if that passes the memo on, and else attribute by attribute."""
        before, rule = dict(self._memo), self.rules.pop(id(module))  # it may ask the memo for itself
        try:
            made = module.__deepcopy__(self._memo)  # type: ignore[operator]
            if not isinstance(made, nn.Module) or any(map(_takes_other_form, made.modules())):
                raise TypeError("choices are left")
            self._memo[id(module)] = made
        except Exception:  # whatever the author's code raises: the other way may still work
            self._memo.clear()
            self._memo.update(before)
            self._copy_attributes(module)
        self.rules[id(module)] = rule


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
    """A deepcopy's memo, by ``id()``, that lets the extraction copy first what it has a rule for."""

    def __init__(self, extraction: Extraction) -> None:
        self._rules = extraction.rules

    def get(self, key: int, default: Any = None) -> Any:
        if key in self._rules and key not in self:
            rule, part = self._rules[key]
            rule(part)
        return dict.get(self, key, default)


def _takes_other_form(module: nn.Module) -> bool:
    return isinstance(module, Extractable) and not module.is_fixed


def _is_ordinary(kind: type[nn.Module]) -> bool:
    """Tell whether deepcopy copies modules of a class by their attributes alone."""
    own_ways = {"__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs_ex__", "__getnewargs__", "__slots__"}
    return all(own_ways.isdisjoint(vars(base)) for base in kind.__mro__ if base not in (object, nn.Module))
