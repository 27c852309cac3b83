"""Places in a model that become choices later, so that one architecture serves many search spaces.

After MMRazor 0.3's ``Placeholder`` and ``BaseMutator.convert_placeholder``. Differs: classes and functions are given
themselves, not by their names in a registry; the mapping is only read; the model itself may be a placeholder; all that
does not fit is reported at once, and then the model is as it was.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from torch import nn

from mutators.choices.errors import ChoiceError
from mutators.choices.mutable import Mutable
from mutators.choices.torch_private import get_children
from mutators.mmrazor.mutables import DifferentiableEdge, DifferentiableOP, OneShotOP
from mutators.subnet.trust import FactoryError, find_factory, run_factory

TARGETS: dict[str, Callable[..., nn.Module]] = {
    "OneShotOP": OneShotOP,
    "DifferentiableOP": DifferentiableOP,
    "DifferentiableEdge": DifferentiableEdge,
}
"""What a mapping may name as a text."""

_Built = TypeVar("_Built")
_OURS = {"type", "choices", "choice_args"}
_DEEPEST = 32  # placeholders within choices of placeholders: more, and a group contains itself


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
        """Refuse to run: a choice has to take this place first.

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
            target is a class or function, its name as "module:function", or one of :data:`TARGETS`; it is called with
            ``space_id``, the built ``choices`` and the arguments, such as ``num_chosen``. A candidate is a class or
            function that returns a module, its name, or ``{"type": one of these, **arguments}``. The mapping's
            ``choices`` have precedence over the placeholder's, as in MMRazor, and so have its ``choice_args``, name
            by name; both have it over a candidate's own arguments.

    Returns: the model, or what stands for it if it is a placeholder itself.

    Raises:
        ChoiceError: a group, a key or an argument is missing or unknown, something cannot be built, or placeholders
            of one space_id offer different choices. All of it is named, and the model is as it was.
    """
    plan = _Plan(mapping)
    plan.scan(model, "", 0)
    if problems := [*plan.problems, *plan.disagreements()]:
        raise ChoiceError(f"the placeholders of this model cannot be converted ({len(problems)} wrong):", problems)
    return plan.carry_out(model)


def placeholders_in(model: nn.Module) -> list[Placeholder]:
    """Return the placeholders that are still in a model, each once."""
    return [module for module in model.modules() if isinstance(module, Placeholder)]


class _Plan:
    """The choices that will stand for the placeholders. Nothing is changed before :meth:`carry_out`."""

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        if not isinstance(mapping, Mapping):
            raise ChoiceError(f"the mapping is {mapping!r}, wanted an object {{group: {{type, choices, ...}}}}.")
        self.mapping = mapping
        self.planned: dict[Placeholder, nn.Module] = {}
        self.problems: list[str] = []

    def scan(self, model: nn.Module, path: str, depth: int) -> None:
        """Build the choices for the placeholders of ``model``, and for those within the new choices."""
        for name, module in model.named_modules(prefix=path):
            if not isinstance(module, Placeholder) or module in self.planned:
                continue
            where = f"{name or 'the model itself'} (group {module.group!r}, space_id {module.space_id!r})"
            if depth >= _DEEPEST:
                self.problems.append(f"{where}: {depth} placeholders within each other: does a group contain itself?")
                return
            built = _attempt(self.problems, where, partial(_build, module, self.mapping))
            if built is not None:
                self.planned[module] = built
                self.scan(built, name, depth + 1)

    def disagreements(self) -> Iterator[str]:
        """List the placeholders that share a space_id and do not become the same decision."""
        first: dict[str, Any] = {}
        for placeholder, built in self.planned.items():
            if isinstance(built, Mutable) and first.setdefault(placeholder.space_id, built.domain) != built.domain:
                yield (
                    f"space_id {placeholder.space_id!r} is {first[placeholder.space_id]} and {built.domain}: "
                    "one space_id is one decision"
                )

    def carry_out(self, model: nn.Module) -> nn.Module:
        """Put everything in its place. Returns: the model, or what stands for it."""
        for tree in [model, *self.planned.values()]:
            for module in tree.modules():
                for name, child in get_children(module).items():
                    get_children(module)[name] = self._instead(child)
        result = self._instead(model)
        assert result is not None
        return result

    def _instead(self, module: nn.Module | None) -> nn.Module | None:
        while isinstance(module, Placeholder):
            module = self.planned[module]
        return module


def _build(placeholder: Placeholder, mapping: Mapping[str, Any]) -> nn.Module:
    """Return the choice for one placeholder. This and all below raise a ChoiceError whose ``problems`` say why not."""
    entry = _entry(placeholder, mapping)
    problems: list[str] = []
    target = _attempt(problems, "type", lambda: _to_callable(entry.get("type"), TARGETS))
    modules = _attempt(problems, "", lambda: _candidates(placeholder, entry))
    arguments = {name: value for name, value in entry.items() if name not in _OURS}
    arguments |= {"space_id": placeholder.space_id, "choices": modules}
    if target is not None:
        problems += _argument_problems(target, arguments)
    if target is None or problems:
        raise ChoiceError("", problems)
    return _build_module(target, arguments)


def _entry(placeholder: Placeholder, mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the mapping's entry for a placeholder's group, with the choices and ``choice_args`` that count."""
    entry = mapping.get(placeholder.group)
    if not isinstance(entry, Mapping):
        known = ", ".join(map(repr, mapping)) or "no group at all"
        said = f"is {entry!r}, wanted an object" if placeholder.group in mapping else f"is missing: there is {known}"
        raise ChoiceError("", [f"the group's entry in the mapping {said}"])
    own, groups = placeholder.choice_args, entry.get("choice_args", {})
    if not isinstance(groups, Mapping):
        raise ChoiceError("", [f"choice_args are {groups!r}, wanted an object of keyword arguments"])
    return {"choices": placeholder.choices, **entry, "choice_args": {**own, **groups}}


def _candidates(placeholder: Placeholder, entry: Mapping[str, Any]) -> dict[str, nn.Module]:
    """Build the candidates of a placeholder."""
    offered = entry["choices"]
    if not isinstance(offered, Mapping) or not offered:
        got = "are missing, in the mapping and in the placeholder" if offered is None else f"are {offered!r}"
        raise ChoiceError("", [f"choices {got}, wanted {{name: class, function or object with a type}}"])
    problems: list[str] = []
    built: dict[str, nn.Module] = {}
    for name, candidate in offered.items():
        is_own = isinstance(candidate, nn.Module) and offered is placeholder.choices
        build = partial(_candidate, candidate, entry["choice_args"])
        module = candidate if is_own else _attempt(problems, f"choice {name!r}", build)
        if module is not None:
            built[name] = module
    if problems:
        raise ChoiceError("", problems)
    return built


def _candidate(given: Any, arguments: Mapping[str, Any]) -> nn.Module:
    if isinstance(given, nn.Module):
        raise ChoiceError("", [f"it is a {type(given).__name__}, which all placeholders would share: give its class"])
    own = dict(given) if isinstance(given, Mapping) else {"type": given}
    factory = _to_callable(own.pop("type", None), {})
    return _build_module(factory, {**own, **arguments})


def _attempt(problems: list[str], where: str, build: Callable[[], _Built]) -> _Built | None:
    """Return what ``build`` returns; or None, and add its problems."""
    try:
        return build()
    except ChoiceError as error:
        problems += [f"{where}: {problem}" if where else problem for problem in error.problems]
        return None


def _to_callable(given: Any, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """Return a class or function that is given itself, as "module:function", or by a name in ``known``."""
    if isinstance(given, str) and given in known:
        return known[given]
    if isinstance(given, str) and ":" in given:
        try:
            return find_factory(given)
        except FactoryError as error:
            raise ChoiceError("", [str(error)]) from error
    if not callable(given):
        got = "it is missing" if given is None else f"it is {given!r}"
        names = "".join(f", {name!r}" for name in known)
        raise ChoiceError("", [f'{got}, wanted a class, a function, "module:function"{names}'])
    found: Callable[..., Any] = given
    return found


def _build_module(factory: Callable[..., Any], arguments: Mapping[str, Any]) -> nn.Module:
    """Return the module that ``factory`` builds."""
    if wrong := _argument_problems(factory, arguments):
        raise ChoiceError("", wrong)
    try:
        return run_factory(factory, arguments, _name(factory))
    except FactoryError as error:
        raise ChoiceError("", [str(error)]) from error.__cause__


def _argument_problems(factory: Callable[..., Any], arguments: Mapping[str, Any]) -> list[str]:
    """List the keyword arguments that ``factory`` lacks or does not take; nothing if its signature is not known."""
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
