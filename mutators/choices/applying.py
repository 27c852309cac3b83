"""Apply choices to a model, in place: until others are applied, or for good.

Differs: in NNI 1.9 this is a mutator that stays bound; here it is a function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from torch import nn

from mutators.choices.errors import ChoiceError
from mutators.choices.layer_choice import LayerChoice
from mutators.choices.notation import indices_of, is_decision, is_mask, read_choices, to_choice, to_list
from mutators.choices.visitor import replace_choices
from mutators.choices.walk import Site, conditions, decisions, drop_idle, refuse_bound, walk
from search_spaces.checks import is_int
from search_spaces.domains import Choice, InputDomain, LayerDomain
from search_spaces.files import read_file
from search_spaces.schema import Choices
from search_spaces.validate import Malformed, parse


def apply_choices(model: nn.Module, choices: Choices) -> None:
    """Set ``model`` to ``choices``, in place. Checks everything before it changes anything; may be repeated.

    Args:
        model: with choices, and without a mutator.
        choices: ``{key: {"_value": name, "_idx": index}}``, for an input choice lists of both. ``_idx`` decides;
            ``_value`` may be left out, and so may keys that do not matter, inside a candidate that is not chosen.
            Keys that begin with ``_`` are ignored, and so are hyper-parameters that were
            searched beside the network: bare values such as ``"lr": 0.1`` under a key that the model does not have.

    Raises:
        ChoiceError: keys are missing or unknown, or a choice is not on offer (all of them are named), or a mutator is
            bound to the model: it would have precedence, so ``release()`` it first. The model is as it was.

    Differs: NNI 1.9 refuses all keys that are not the model's, hyper-parameters too; it calls its mutator, which can
    be applied only once.
    """
    sites = walk(model)
    wanted = read_choices(decisions(sites), choices, when=conditions(sites))
    refuse_bound(sites)
    _apply(sites, wanted)


def apply_fixed_architecture(model: nn.Module, fixed: Mapping[str, Any] | str | PathLike[str]) -> dict[str, Choice]:
    """Fix ``model`` to an architecture for good, in place: chosen layers take the place of their choices.

    Input choices stay, with the choice applied, and so do layer choices that do more than their chosen layer: those
    that return a mask or a list, have a forward of their own, or hooks.

    Args:
        model: with choices, and without a mutator.
        fixed: a mapping or the path of a JSON file: ``{key: value}``, where a value is an index, a name, a list of
            them, a mask of one bool (or float, 0 or 1) a candidate, or ``{"_value", "_idx"}``; tensors and NumPy
            arrays as well. So it takes what a mutator's ``export()`` returns, and what a tuner proposes. Keys that
            begin with ``_`` are ignored, and so are hyper-parameters under keys that the model does not have: all bare
            values where the model's are ``{"_value", "_idx"}``, else those that are no index, name or list.

    A layer of which the mask chooses no candidate, as :class:`~mutators.DartsMutator` exports those that only feed
    inputs which are not kept, is removed: it returns None.

    Returns: the choices that matter, as :func:`apply_choices` takes them; of layers that are removed they have the
        first candidate.

    Raises:
        ChoiceError: the file cannot be read, keys are missing or unknown, or a value does not fit. All that is wrong
            is listed, and the model is as it was.

    Differs: a layer choice is fixed to exactly one candidate; returns choices where NNI 1.9 returns a mutator.
    """
    given = _read(fixed) if isinstance(fixed, (str, PathLike)) else fixed
    sites = walk(model)
    domains = decisions(sites)
    removed = _find_removed(domains, given)
    full = isinstance(given, Mapping) and all(isinstance(given[key], Mapping) for key in domains if key in given)
    choices = read_choices(
        domains,
        {**given, **dict.fromkeys(removed, 0)} if removed else given,
        to_choice,
        is_decision if full else _may_be_decision,
        when=conditions(sites),
    )
    active = drop_idle(sites, choices)
    _check_removed(removed, domains, active)
    refuse_bound(sites)
    _apply(sites, choices)
    layers = [choice for site in sites if isinstance(choice := site.mutable, LayerChoice)]
    plain = [choice for choice in layers if choice.is_bare and choice.is_plain]
    indices = {key: () if key in removed else indices_of(choice) for key, choice in choices.items()}
    replace_choices(model, {id(choice): indices[choice.key] for choice in plain})
    return active


def _may_be_decision(key: Any, value: Any) -> bool:
    """Tell whether an entry may have been meant for a model, in any notation."""
    plain = to_list(value)
    return not str(key).startswith("_") and (is_decision(key, plain) or is_int(plain) or isinstance(plain, (str, list)))


def _find_removed(domains: Mapping[str, LayerDomain | InputDomain], given: Any) -> list[str]:
    """Return the keys of the layers that feed input choices and of which a mask chooses no candidate."""
    if not isinstance(given, Mapping):
        return []
    feeding = {name for domain in domains.values() if isinstance(domain, InputDomain) for name in domain.candidates}
    layers = [key for key, domain in domains.items() if isinstance(domain, LayerDomain) and key in feeding]
    masks = {key: to_list(given[key]) for key in layers if key in given}
    return [k for k, mask in masks.items() if is_mask(mask) and not any(mask) and len(mask) == domains[k].radix]


def _check_removed(
    removed: Sequence[str], domains: Mapping[str, LayerDomain | InputDomain], choices: Mapping[str, Choice]
) -> None:
    used = {name for key, c in choices.items() if isinstance(domains[key], InputDomain) for name in c["_value"]}
    problems = [f"{key!r} has no candidate, but an input choice selects it" for key in removed if key in used]
    if problems:
        raise ChoiceError(f"the architecture does not fit this model ({len(problems)} wrong):", problems)


def _apply(sites: list[Site], choices: dict[str, Choice]) -> None:
    for site in sites:
        site.mutable.bind(None, site.key, site.path)
        if site.domain is not None:
            site.mutable.choose(indices_of(choices[site.key]))


def _read(path: str | PathLike[str]) -> Any:
    try:
        return parse(read_file(Path(path)).decode())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ChoiceError(f"cannot read the architecture {fspath(path)}: {reason}.") from None
    except Malformed as error:
        raise ChoiceError(f"{fspath(path)} is not JSON: {error}.") from None
