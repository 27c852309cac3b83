"""Convert each notation of a sub-network to choices.

- choices, as tuners give them: ``{"conv1.kernel_size": {"_idx": 1}}``
- numbers by key: ``{"conv1.kernel_size": 5}``
- by layer, as PaddleSlim has it: ``{"conv1": {"kernel_size": 5}}``
- ``{"ks": [...], "e": [...], "d": [...]}``, as Once-for-all's authors have it; see :mod:`mutators.elastic.mit_config`

Keys that are not named stay at their largest.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.walk import decisions, walk
from mutators.elastic.mit_config import PARTS, config_to_choices
from search_spaces.checks import is_number
from search_spaces.domains import Choice, InputDomain, LayerDomain
from search_spaces.phases.schedule import order_by_size

Config = Mapping[str, Any]


def to_choices(model: nn.Module, config: Config) -> dict[str, Choice]:
    """Return the choices of a configuration in any of the notations.

    Raises:
        ElasticError: it is of another network: a key or a value is not on offer; all of them are named.
    """
    if not isinstance(config, Mapping):
        raise ElasticError(f"the configuration is {config!r}, wanted an object {{key: value}}.")
    domains = decisions(walk(model))
    choices = {key: domain.choice((order_by_size(domain) or [0])[0]) for key, domain in domains.items()}
    by_layer = any(isinstance(value, Mapping) for value in config.values())  # of a layer that is called "e", say
    if config and config.keys() <= PARTS.keys() - domains.keys() and not by_layer:
        ends = {PARTS[part] for part in config}
        given = config_to_choices(model, config)
        return {key: given[key] if key.rpartition(".")[2] in ends else choice for key, choice in choices.items()}
    problems: list[str] = []
    for key, value in _flat(config, domains).items():
        if key not in domains:
            near = difflib.get_close_matches(key, domains, n=1)
            hint = f", did you mean {near[0]!r}?" if near else f"; there are {', '.join(list(domains)[:5])} ..."
            problems.append(f"{key!r} is no key of this network{hint}")
            continue
        wrong, choice = _parse_value(domains[key], value)
        problems += [f"{key!r}: {problem}" for problem in wrong]
        choices[key] = choice
    if problems:
        raise ElasticError("the configuration does not fit this network:", problems)
    return choices


def _flat(config: Config, domains: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by key, without PaddleSlim's nesting and without keys that begin with _, which are the tuner's."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if str(key).startswith("_"):
            continue
        if isinstance(value, Mapping) and "_idx" not in value and key not in domains:
            flat.update({f"{key}.{name}" if key else name: inner for name, inner in value.items()})
        else:
            flat[key] = value
    return flat


def _parse_value(domain: LayerDomain | InputDomain, value: Any) -> tuple[list[str], Choice]:
    """Return what is wrong with a value, and the choice that it means."""
    if isinstance(value, Mapping):
        return domain.problems(value), value
    if isinstance(domain, LayerDomain):
        for index, name in enumerate(domain.names):
            if value == name or (is_number(value) and _parse_number(name) == value):
                return [], domain.choice(index)
    return [f"{value!r} is not on offer, wanted one of {domain.to_json()}"], None


def _parse_number(name: str) -> float | None:
    try:
        return float(name)
    except ValueError:
        return None
