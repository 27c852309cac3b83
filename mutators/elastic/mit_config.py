"""Convert configurations of MIT's Once-for-All, ``{"ks": [...], "e": [...], "d": [...], "w": [...]}``, to choices.

Each part lists the values of the choices of one kind, in the model's order. The last name of a choice's key is its
kind. Works for any model whose choices have these names.

Differs: MIT does not check its configurations; an unknown ratio runs, and fails at the export or not at all. There
``w`` holds indices; here too, and a float is the multiplier itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import nn

from mutators.choices.applying import apply_choices
from mutators.choices.errors import ElasticError
from mutators.choices.extracting import extract
from mutators.choices.value_choice import ValueChoice
from mutators.choices.visitor import Extractable, Extraction
from mutators.choices.walk import Site, space_of, walk
from search_spaces.checks import is_int
from search_spaces.schema import Choices

Config = Mapping[str, Any]
"""By part, one value for all of its choices, or a list of one value each."""

PARTS = {"ks": "kernel_size", "e": "expand_ratio", "d": "depth", "w": "width"}
"""The last names of the keys that belong to each part."""

INDEXED = ("w",)
"""Parts whose values MIT writes as indices."""


def config_to_choices(model: nn.Module, config: Config | None = None, parts: Mapping[str, str] = PARTS) -> Choices:
    """Return a configuration as choices.

    Args:
        model: with elastic choices, bound to a mutator or not.
        config: lists in the model's order, of all choices, those beyond the depth too; or one value for all. What is
            missing stays as it is applied now.
        parts: the last name of the keys of each part.

    Returns: all choices of the model, those of no part as they are applied now.

    Raises:
        ElasticError: parts are unknown, lists have the wrong length, or values are not on offer; all are named.
    """
    if not isinstance(config, (Mapping, NoneType)):
        raise ElasticError(f"the configuration is {config!r}, wanted a mapping such as {{'ks': 7, 'e': [6, ...]}}.")
    sites = _find_choices(model)
    by_part = _by_part(sites, parts)
    indices: dict[str, int] = {}
    problems: list[str] = []
    for part, given in (config or {}).items():
        if part not in by_part:
            problems.append(f"{part!r} is unknown, wanted some of {', '.join(by_part)}")
            continue
        mutables = by_part[part]
        given = given.tolist() if isinstance(given, (np.ndarray, torch.Tensor)) else given
        values = list(given) if isinstance(given, (list, tuple)) else [given] * len(mutables)
        if len(values) != len(mutables):
            problems.append(f"{part!r} has {len(values)} values, wanted {len(mutables)}, or one for all")
            continue
        for at, ((key, choice), value) in enumerate(zip(mutables.items(), values, strict=True)):
            index = _index(choice, value, part in INDEXED)
            if index is None:
                offer = f"{'an index' if part in INDEXED else 'one'} of {list(choice.values)}"
                problems.append(f"{part}[{at}], {key!r}: {value!r} is not on offer, wanted {offer}")
            else:
                indices[key] = index
    if problems:
        raise ElasticError(f"the configuration does not fit this {type(model).__name__}:", problems)
    chosen = {site.key: site.mutable.applied_indices for site in sites}
    chosen |= {key: (index,) for key, index in indices.items()}
    return {site.key: _choice(site, chosen[site.key]) for site in sites if chosen[site.key] is not None}


def choices_to_config(
    model: nn.Module, choices: Choices | None = None, parts: Mapping[str, str] = PARTS
) -> dict[str, list[float]]:
    """Return choices as a configuration, the inverse of :func:`config_to_choices`; None: those that are applied now.

    Choices of no part are left out, and so are parts without choices. Those beyond the depth may be missing: lists
    have the largest there. It is plain data, fit for JSON.

    Raises:
        ElasticError: a choice is missing or not on offer; all are named.
    """
    by_part = _by_part(_find_choices(model), parts)
    wanted = {key: choice for mutables in by_part.values() for key, choice in mutables.items()}
    if choices is None:
        choices = {key: choice.domain.choice(choice.applied_indices[0]) for key, choice in wanted.items()}
    else:
        choices = {**_largest_beyond(model, wanted, choices), **choices}
    problems = [f"missing {key!r}" for key in wanted if key not in choices]
    for key in (key for key in wanted if key in choices):
        problems += [f"{key!r}: {problem}" for problem in wanted[key].domain.problems(choices[key])]
    if problems:
        raise ElasticError(f"the choices do not fit this {type(model).__name__}:", problems)
    tokens = {key: choice.domain.token(choices[key]) for key, choice in wanted.items()}
    return {
        part: [tokens[key] if part in INDEXED else choice.values[tokens[key]] for key, choice in mutables.items()]
        for part, mutables in by_part.items()
    }


class ElasticNetwork(nn.Sequential, Extractable):
    """A sequence of layers, some of them elastic, set by MIT's configurations. Extracted, it is a plain Sequential."""

    def set_config(self, config: Config) -> None:
        """Set choices, in place; what is missing stays. All is checked before anything is set.

        Raises:
            ElasticError: see :func:`config_to_choices`.
            ChoiceError: a mutator is bound.
        """
        apply_choices(self, config_to_choices(self, config))

    def extract(self, config: Config | None = None) -> nn.Module:
        """Return the plain network of a configuration; what is missing is as it is set now. Nothing is set.

        Raises:
            ElasticError: see :func:`config_to_choices`.
        """
        return extract(self, config_to_choices(self, config))

    def choices_of(self, config: Config | None = None) -> Choices:
        """Return a configuration as choices; see :func:`config_to_choices`."""
        return config_to_choices(self, config)

    def config_of(self, choices: Choices | None = None) -> dict[str, list[float]]:
        """Return choices as a configuration; see :func:`choices_to_config`."""
        return choices_to_config(self, choices)

    def extracted(self, extraction: Extraction) -> nn.Sequential:
        """Return a Sequential of the plain layers."""
        plain = nn.Sequential(OrderedDict((name, extraction.copy(child)) for name, child in self.named_children()))
        plain.training = self.training
        return plain


def _find_choices(model: nn.Module) -> list[Site]:
    """Return the sites of a model's choices, each key once."""
    return list({site.key: site for site in walk(model) if site.domain is not None}.values())


def _largest_beyond(model: nn.Module, wanted: Mapping[str, ValueChoice], choices: Choices) -> dict[str, Any]:
    """Return the largest option of choices that are not given and do not matter."""
    given = {key: choice.domain for key, choice in wanted.items() if key in choices}
    tokens = {key: d.token(choices[key]) for key, d in given.items() if not d.problems(choices[key])}
    needed = set(space_of(walk(model)).active_keys(tokens))
    beyond = {key: choice for key, choice in wanted.items() if key not in choices and key not in needed}
    return {key: choice.domain.choice(choice.values.index(max(choice.values))) for key, choice in beyond.items()}


def _by_part(sites: Sequence[Site], parts: Mapping[str, str]) -> dict[str, dict[str, ValueChoice]]:
    found: dict[str, dict[str, ValueChoice]] = {}
    for part, name in parts.items():
        for site in sites:
            if isinstance(site.mutable, ValueChoice) and site.key.rpartition(".")[2] == name:
                found.setdefault(part, {})[site.key] = site.mutable
    return found


def _index(choice: ValueChoice, value: Any, indexed: bool) -> int | None:
    """Return the index of a value; None if it is not on offer."""
    if indexed and is_int(value):
        return int(value) if 0 <= value < len(choice.values) else None
    return None if choice.problem(value) else choice.values.index(value)


def _choice(site: Site, indices: Any) -> Any:
    domain = site.domain
    assert domain is not None
    if isinstance(site.mutable, ValueChoice):
        return domain.choice(indices[0])
    return {"_idx": indices[0] if domain.type == "layer_choice" else list(indices)}
