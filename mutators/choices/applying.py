"""Apply choices to a model, in place: until others are applied, or for good.

Differs: in NNI 1.9 this is a mutator that stays bound; here it is a function.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from torch import nn

from mutators.choices.errors import ChoiceError
from mutators.choices.layer_choice import LayerChoice
from mutators.choices.notation import to_choice
from mutators.choices.visitor import replace_choices
from mutators.choices.walk import Site, decisions, walk
from search_spaces.domains import Choice, InputDomain, LayerDomain
from search_spaces.schema import Choices
from search_spaces.validate import Malformed, parse

_DECISION_FIELDS = {"_idx", "_value", "_idex"}


def apply_choices(model: nn.Module, choices: Choices) -> None:
    """Set ``model`` to ``choices``, in place. Checks everything before it changes anything; may be repeated.

    Args:
        model: with choices, and without a mutator.
        choices: ``{key: {"_value": name, "_idx": index}}``, for an input choice lists of both. ``_idx`` decides;
            ``_value`` may be left out. Keys that begin with ``_`` are ignored, and so are hyper-parameters that were
            searched beside the network: bare values such as ``"lr": 0.1`` under a key that the model does not have.

    Raises:
        ChoiceError: keys are missing or unknown, or a choice is not on offer (all of them are named), or a mutator is
            bound to the model: it would have precedence, so ``release()`` it first. The model is as it was.

    Differs: NNI 1.9 refuses all keys that are not the model's, hyper-parameters too; it calls its mutator, which can
    be applied only once.
    """
    sites = walk(model)
    indices = check_choices(sites, choices)
    _refuse_bound(sites)
    _apply(sites, indices)


def apply_fixed_architecture(model: nn.Module, fixed: Mapping[str, Any] | str | PathLike[str]) -> dict[str, Choice]:
    """Fix ``model`` to an architecture for good, in place: chosen layers take the place of their choices.

    Input choices stay, with the choice applied, and so do layer choices that do more than their chosen layer: those
    that return a mask or a list, have a forward of their own, or hooks.

    Args:
        model: with choices, and without a mutator.
        fixed: a mapping or the path of a JSON file: ``{key: value}``, where a value is an index, a name, a list of
            them, a list of one bool a candidate, or ``{"_value", "_idx"}``.

    Returns: the choices, as :func:`apply_choices` takes them.

    Raises:
        ChoiceError: the file cannot be read, keys are missing or unknown, or a value does not fit. All that is wrong
            is listed, and the model is as it was.

    Differs: a layer choice is fixed to exactly one candidate; returns choices where NNI 1.9 returns a mutator.
    """
    given = _read(fixed) if isinstance(fixed, (str, PathLike)) else fixed
    if not isinstance(given, Mapping):
        raise ChoiceError(f"the fixed architecture is {given!r}, wanted an object {{key: value}}.")
    sites = walk(model)
    domains = decisions(sites)
    problems = [f"unknown {key!r}" for key in given if key not in domains and not str(key).startswith("_")]
    choices: dict[str, Choice] = {}
    for key in domains.keys() & given.keys():
        try:
            choices[key] = to_choice(domains[key], given[key])
        except ChoiceError as error:
            problems.append(f"{key!r}: {error}")
    indices = check_choices(sites, choices, problems)
    _refuse_bound(sites)
    _apply(sites, indices)
    layers = [choice for site in sites if isinstance(choice := site.mutable, LayerChoice)]
    plain = [choice for choice in layers if choice.is_bare and choice.is_plain]
    replace_choices(model, {id(choice): indices[choice.key] for choice in plain})
    return {key: domain.choice(domain.token(_pair(domain, indices[key]))) for key, domain in domains.items()}


def check_choices(sites: list[Site], choices: Any, problems: list[str] | None = None) -> dict[str, tuple[int, ...]]:
    """Return the chosen indices by key, or raise a ChoiceError with all that is wrong.

    Args:
        problems: what is known to be wrong already; keys that it names need not be in ``choices``.
    """
    if not isinstance(choices, Mapping):
        raise ChoiceError(f"choices are {choices!r}, wanted an object {{key: choice}}.")
    domains, found = decisions(sites), list(problems or [])
    given = {key: _spelt(key, choices[key]) for key in domains if key in choices}
    found += [f"missing {key!r}" for key in domains if key not in given and not _named(key, found)]
    found += [f"unknown {key!r}" for key in choices if key not in domains and _is_decision(key, choices[key])]
    found += [f"{key!r}: {problem}" for key, choice in given.items() for problem in domains[key].problems(choice)]
    if found:
        raise ChoiceError(f"choices do not fit this model ({len(found)} wrong):", found)
    return {
        key: (int(given[key]["_idx"]),)
        if isinstance(domain, LayerDomain)
        else tuple(sorted(int(i) for i in given[key]["_idx"]))
        for key, domain in domains.items()
    }


def _named(key: str, problems: list[str]) -> bool:
    return any(problem.startswith(f"{key!r}: ") for problem in problems)


def _spelt(key: str, choice: Any) -> Any:
    """The choice, with ``_idx`` for NNI's documentation's ``_idex``."""
    if not isinstance(choice, dict) or "_idx" in choice or "_idex" not in choice:
        return choice
    warnings.warn(f"the choice of {key!r} has _idex; it is read as _idx: write that.", stacklevel=4)
    return {"_idx" if name == "_idex" else name: value for name, value in choice.items()}


def _is_decision(key: Any, value: Any) -> bool:
    """Whether an entry that the model does not have was meant for a model, and not for the training script."""
    return not str(key).startswith("_") and isinstance(value, dict) and not _DECISION_FIELDS.isdisjoint(value)


def _refuse_bound(sites: list[Site]) -> None:
    bound = [site.key for site in sites if site.mutable.mutator is not None]
    if bound:
        raise ChoiceError(
            f"a mutator is bound to this model (at {bound[0]!r}) and has precedence: release() it, then apply choices."
        )


def _apply(sites: list[Site], indices: dict[str, tuple[int, ...]]) -> None:
    for site in sites:
        site.mutable.bind(None, site.key)
        if site.domain is not None:
            site.mutable.choose(indices[site.key])


def _pair(domain: LayerDomain | InputDomain, indices: tuple[int, ...]) -> Choice:
    return {"_idx": indices[0] if isinstance(domain, LayerDomain) else list(indices)}


def _read(path: str | PathLike[str]) -> Any:
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ChoiceError(f"cannot read the architecture {fspath(path)}: {reason}.") from None
    except Malformed as error:
        raise ChoiceError(f"{fspath(path)} is not JSON: {error}.") from None
