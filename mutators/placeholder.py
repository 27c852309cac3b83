"""Places in a model that become choices later, so that one architecture serves many search spaces.

After MMRazor 0.3's ``Placeholder`` and ``BaseMutator.convert_placeholder``. Differs: classes and functions are given
themselves, not by their names in a registry; the mapping is only read; the model itself may be a placeholder; all that
does not fit is reported at once, and then the model is as it was.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from mutators.errors import ChoiceError
from mutators.factory import FactoryError, find
from mutators.mutables import Mutable
from mutators.targets import DifferentiableEdge, DifferentiableOP, OneShotOP

TARGETS: dict[str, Callable[..., nn.Module]] = {
    "OneShotOP": OneShotOP,
    "DifferentiableOP": DifferentiableOP,
    "DifferentiableEdge": DifferentiableEdge,
}
"""What a mapping may name as a text."""

_DEEPEST = 32
"""Placeholders within choices of placeholders; more than this, and a group contains itself."""


class Placeholder(nn.Module):
    """Stands where :func:`convert_placeholders` will put a choice.

    Args:
        group: which entry of the mapping says what comes here.
        space_id: key of the decision; the same on several placeholders is one decision.
        choices: the candidates, as in a mapping, for groups whose entry has none. They may be modules, too.
        choice_args: keyword arguments that each candidate is built with, such as the channels at this place.

    Raises:
        ChoiceError: group or space_id is no text or empty.
    """

    def __init__(
        self,
        group: str,
        space_id: str,
        choices: Mapping[str, Any] | None = None,
        choice_args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        given = {"group": group, "space_id": space_id}
        wrong = [f"{k} is {v!r}, wanted a text" for k, v in given.items() if not isinstance(v, str) or not v]
        if wrong:
            raise ChoiceError("this Placeholder cannot be:", wrong)
        self.group, self.space_id = group, space_id
        self.choices = None if choices is None else dict(choices)
        self.choice_args = dict(choice_args or {})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Never runs.

        Raises:
            ChoiceError: always.
        """
        raise ChoiceError(
            f"the Placeholder of group {self.group!r}, space_id {self.space_id!r} was called: first put a choice in "
            "its place by model = convert_placeholders(model, mapping), or by OneShotMutator.prepare_from_supernet."
        )

    def extra_repr(self) -> str:
        return f"group={self.group!r}, space_id={self.space_id!r}"


def convert_placeholders(model: nn.Module, mapping: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    """Put a choice in the place of every placeholder, in place; also of those within the new choices.

    Args:
        model: with placeholders.
        mapping: by group ``{"type": target, "choices": {name: candidate}, "choice_args": {...}, **arguments}``. The
            target is a class or function, or the name of one of :data:`TARGETS`; it is called with ``space_id``, the
            built ``choices`` and the arguments, such as ``num_chosen``. A candidate is a class or function that
            returns a module, or its name as "module:function", or ``{"type": one of these, **arguments}``. The
            mapping's ``choices`` have precedence over the placeholder's, as in MMRazor, and so have its
            ``choice_args``, name by name; both have it over a candidate's own arguments.

    Returns: the model, or what stands for it if it is a placeholder itself.

    Raises:
        ChoiceError: a group, a key or an argument is missing or unknown, something cannot be built, or placeholders
            of one space_id offer different choices. All of it is named, and the model is as it was.
    """
    plan = _Plan(mapping)
    plan.scan(model, "", 0)
    problems = [*plan.problems, *plan.disagreements()]
    if problems:
        raise ChoiceError(f"the placeholders of this model cannot be converted ({len(problems)} wrong):", problems)
    return plan.carry_out(model)


def placeholders_in(model: nn.Module) -> list[Placeholder]:
    """The placeholders that are still in a model, each once."""
    return [module for module in model.modules() if isinstance(module, Placeholder)]


class _Plan:
    """What becomes of each placeholder. Nothing is changed before :meth:`carry_out`."""

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        self.mapping = mapping
        self.planned: dict[Placeholder, nn.Module] = {}
        self.problems: list[str] = []

    def scan(self, model: nn.Module, path: str, depth: int) -> None:
        """Build what stands for the placeholders of ``model``, and for those in it."""
        for name, module in model.named_modules(prefix=path):
            if not isinstance(module, Placeholder) or module in self.planned:
                continue
            where = f"{name or 'the model itself'} (group {module.group!r}, space_id {module.space_id!r})"
            if depth >= _DEEPEST:
                self.problems.append(f"{where}: {depth} placeholders within each other: does a group contain itself?")
                return
            built = _build(module, self.mapping, self.problems, where)
            if built is not None:
                self.planned[module] = built
                self.scan(built, name, depth + 1)

    def disagreements(self) -> Iterator[str]:
        """Placeholders that share a space_id and do not become the same decision."""
        first: dict[str, tuple[type, Any]] = {}
        for placeholder, built in self.planned.items():
            if isinstance(built, Mutable):
                offer = first.setdefault(placeholder.space_id, (type(built), built.domain))
                if offer != (type(built), built.domain):
                    yield (
                        f"space_id {placeholder.space_id!r} is {offer[0].__name__} {offer[1]} and "
                        f"{type(built).__name__} {built.domain}: one space_id is one decision"
                    )

    def carry_out(self, model: nn.Module) -> nn.Module:
        for tree in [model, *self.planned.values()]:
            for module in tree.modules():
                for name, child in module._modules.items():
                    module._modules[name] = self._instead(child)
        result = self._instead(model)
        assert result is not None
        return result

    def _instead(self, module: nn.Module | None) -> nn.Module | None:
        while isinstance(module, Placeholder):
            module = self.planned[module]
        return module


def _build(placeholder: Placeholder, mapping: Mapping[str, Any], problems: list[str], where: str) -> nn.Module | None:
    """Return the choice for one placeholder, or None and say why."""
    entry = mapping.get(placeholder.group)
    if not isinstance(entry, Mapping):
        known = ", ".join(map(repr, mapping)) or "no group at all"
        said = f"is {entry!r}, wanted an object" if placeholder.group in mapping else f"is missing: there is {known}"
        problems.append(f"{where}: the group's entry in the mapping {said}")
        return None
    before = len(problems)
    target, offered = entry.get("type"), entry.get("choices", placeholder.choices)
    target = TARGETS.get(target, target) if isinstance(target, str) else target
    if not callable(target):
        got = "is missing" if target is None else f"is {target!r}"
        problems.append(f"{where}: type {got}, wanted a class, a function, or one of {', '.join(TARGETS)}")
    if not isinstance(offered, Mapping) or not offered:
        got = "are missing, in the mapping and in the placeholder" if offered is None else f"are {offered!r}"
        problems.append(f"{where}: choices {got}, wanted {{name: class, function or object with a type}}")
        return None
    arguments = {**placeholder.choice_args, **entry.get("choice_args", {})}
    modules = {
        name: _candidate(candidate, arguments, "choices" not in entry, problems, f"{where}, choice {name!r}")
        for name, candidate in offered.items()
    }
    rest = {name: value for name, value in entry.items() if name not in ("type", "choices", "choice_args")}
    if callable(target):
        wrong = argument_problems(target, {"space_id": placeholder.space_id, "choices": modules, **rest})
        problems += [f"{where}: {problem}" for problem in wrong]
    if len(problems) > before:
        return None
    return _called(target, {"space_id": placeholder.space_id, "choices": modules, **rest}, problems, where)


def _candidate(
    given: Any, arguments: Mapping[str, Any], may_be_module: bool, problems: list[str], where: str
) -> nn.Module | None:
    """Return one candidate, built, or None and say why."""
    if isinstance(given, nn.Module):
        if not may_be_module:
            problems.append(f"{where} is a {type(given).__name__}, which all placeholders would share: give its class")
        return given
    own = {name: value for name, value in given.items() if name != "type"} if isinstance(given, Mapping) else {}
    factory = given.get("type") if isinstance(given, Mapping) else given
    if isinstance(factory, str):
        try:
            factory = find(factory)
        except FactoryError as error:
            problems.append(f"{where}: {error}")
            return None
    if not callable(factory):
        problems.append(
            f'{where} is {given!r}, wanted a class, a function, "module:function", or an object with `type`'
        )
        return None
    wrong = argument_problems(factory, {**own, **arguments})
    problems += [f"{where}: {problem}" for problem in wrong]
    return None if wrong else _called(factory, {**own, **arguments}, problems, where)


def _called(factory: Any, arguments: Mapping[str, Any], problems: list[str], where: str) -> nn.Module | None:
    try:
        built = factory(**arguments)
    except Exception as error:  # whatever the author's code raises, the reader has to learn which place it was
        problems.append(f"{where}: {_name(factory)} failed: {type(error).__name__}: {error}")
        return None
    if isinstance(built, nn.Module):
        return built
    problems.append(f"{where}: {_name(factory)} returned a {type(built).__name__}, wanted an nn.Module")
    return None


def argument_problems(factory: Callable[..., Any], arguments: Mapping[str, Any]) -> list[str]:
    """Which keyword arguments ``factory`` lacks, and which it does not take; empty also if it does not tell."""
    try:
        known = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return []
    named = {p.name: p for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    found = [
        f"{_name(factory)} lacks the argument {name!r}"
        for name, p in named.items()
        if p.default is p.empty and name not in arguments
    ]
    if not any(p.kind is p.VAR_KEYWORD for p in known):
        takes = ", ".join(named) or "none"
        found += [f"{_name(factory)} takes no {name!r}, only {takes}" for name in arguments if name not in named]
    return found


def _name(factory: Any) -> str:
    return getattr(factory, "__name__", None) or repr(factory)
