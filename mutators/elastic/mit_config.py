"""Configurations as MIT's Once-for-All writes them: ``{"ks": [...], "e": [...], "d": [...], "w": [...]}``.

Each part lists the values of the choices of one kind, in the order in which they stand in the model. Which kind a
choice is, the last name of its key says. Works for any model whose choices are called so.

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
from mutators.choices.extracting import extract
from mutators.choices.value_choice import ValueChoice
from mutators.choices.visitor import Extractable, Extraction
from mutators.choices.walk import Site, walk
from mutators.elastic.layers.errors import ElasticError
from search_spaces.checks import is_int
from search_spaces.schema import Choices

Config = Mapping[str, Any]
"""By part, one value for all of its choices, or a list of one each."""

PARTS = {"ks": "kernel_size", "e": "expand_ratio", "d": "depth", "w": "width"}
"""The last names of the keys that belong to each part."""

INDEXED = ("w",)
"""Parts whose values MIT writes as indices."""


def choices_of(model: nn.Module, config: Config | None = None, parts: Mapping[str, str] = PARTS) -> Choices:
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
    sites = _decided(model)
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
                problems.append(f"{part}[{at}], {key!r}: {value!r} is not on offer, wanted {_offer(choice, part)}")
            else:
                indices[key] = index
    if problems:
        raise ElasticError(f"the configuration does not fit this {type(model).__name__}:", problems)
    chosen = {site.key: _applied(site) for site in sites}
    chosen |= {key: (index,) for key, index in indices.items()}
    return {site.key: _choice(site, chosen[site.key]) for site in sites if chosen[site.key] is not None}


def config_of(
    model: nn.Module, choices: Choices | None = None, parts: Mapping[str, str] = PARTS
) -> dict[str, list[float]]:
    """Return choices as a configuration, the inverse of :func:`choices_of`; None: those that are applied now.

    Choices of no part are left out, and so are parts without choices. It is plain data, fit for JSON.

    Raises:
        ElasticError: a choice is missing or not on offer; all are named.
    """
    by_part = _by_part(_decided(model), parts)
    wanted = {key: choice for mutables in by_part.values() for key, choice in mutables.items()}
    given = {key: _choice_of(choice) for key, choice in wanted.items()} if choices is None else choices
    problems = [f"missing {key!r}" for key in wanted if key not in given]
    problems += [
        f"{key!r}: {problem}"
        for key, choice in wanted.items()
        if key in given
        for problem in choice.domain.problems(given[key])
    ]
    if problems:
        raise ElasticError(f"the choices do not fit this {type(model).__name__}:", problems)
    tokens = {key: choice.domain.token(given[key]) for key, choice in wanted.items()}
    return {
        part: [tokens[key] if part in INDEXED else choice.values[tokens[key]] for key, choice in mutables.items()]
        for part, mutables in by_part.items()
    }


class ElasticNetwork(nn.Sequential, Extractable):
    """Layers one after another, some of them elastic, that MIT's configurations set. Extracted, a plain Sequential."""

    def set_config(self, config: Config) -> None:
        """Set choices, in place; what is missing stays. All is checked before anything is set.

        Raises:
            ElasticError: see :func:`choices_of`.
            ChoiceError: a mutator is bound.
        """
        apply_choices(self, choices_of(self, config))

    def extract(self, config: Config | None = None) -> nn.Module:
        """Return the plain network of a configuration; what is missing is as it is set now. Nothing is set.

        Raises:
            ElasticError: see :func:`choices_of`.
        """
        return extract(self, choices_of(self, config))

    def choices_of(self, config: Config | None = None) -> Choices:
        """See :func:`choices_of`."""
        return choices_of(self, config)

    def config_of(self, choices: Choices | None = None) -> dict[str, list[float]]:
        """See :func:`config_of`."""
        return config_of(self, choices)

    def extracted(self, extraction: Extraction) -> nn.Sequential:
        """Return a Sequential of the plain layers."""
        plain = nn.Sequential(OrderedDict((name, extraction.copy(child)) for name, child in self.named_children()))
        plain.training = self.training
        return plain


def _decided(model: nn.Module) -> list[Site]:
    """Where something can be chosen, each key once."""
    return list({site.key: site for site in walk(model) if site.domain is not None}.values())


def _by_part(sites: Sequence[Site], parts: Mapping[str, str]) -> dict[str, dict[str, ValueChoice]]:
    found = {
        part: {
            site.key: site.mutable
            for site in sites
            if isinstance(site.mutable, ValueChoice) and site.key.rpartition(".")[2] == name
        }
        for part, name in parts.items()
    }
    return {part: mutables for part, mutables in found.items() if mutables}


def _index(choice: ValueChoice, value: Any, indexed: bool) -> int | None:
    """Of a value that is on offer; None if it is not."""
    if indexed and is_int(value):
        return int(value) if 0 <= value < len(choice.values) else None
    return None if choice.problem(value) else choice.values.index(value)


def _offer(choice: ValueChoice, part: str) -> str:
    values = list(choice.values)
    return f"an index of {values}" if part in INDEXED else f"one of {values}"


def _applied(site: Site) -> tuple[int, ...] | None:
    return site.mutable.applied


def _choice(site: Site, indices: Any) -> Any:
    domain = site.domain
    assert domain is not None
    if isinstance(site.mutable, ValueChoice):
        return domain.choice(indices[0])
    is_layer = domain.type == "layer_choice"
    return {"_idx": indices[0] if is_layer else list(indices)}


def _choice_of(choice: ValueChoice) -> Any:
    return choice.domain.choice(choice.applied[0])
