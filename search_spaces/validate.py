"""Check a search space: list all problems, each with its place, and make its domains."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import json5

from search_spaces.checks import is_int, is_number, rounded
from search_spaces.domains import (
    MAX_RADIX,
    ChoiceDomain,
    Domain,
    InputDomain,
    LayerDomain,
    QuniformDomain,
    RandintDomain,
)
from search_spaces.errors import Problem
from search_spaces.errors import place as _place
from search_spaces.errors import shorten as _shorten
from search_spaces.nested import expand_entries, is_named
from search_spaces.values import MAX_LEVELS, GridDomain, identity
from search_spaces.when import Clauses, check_conditions

_INSTEAD = {
    "normal": "uniform over the range that matters, such as [mu - 2 * sigma, mu + 2 * sigma]",
    "qnormal": "quniform over the range that matters, such as [mu - 2 * sigma, mu + 2 * sigma, q]",
    "lognormal": "loguniform over the range that matters, such as [exp(mu - 2 * sigma), exp(mu + 2 * sigma)]",
    "qlognormal": "qloguniform over the range that matters, such as [exp(mu - 2 * sigma), exp(mu + 2 * sigma), q]",
    "mutable_layer": "layer_choice and input_choice, one key each",
}
_LONGEST_JSON5 = 1 << 18  # characters: json5 reads some 10,000 a second
_GRIDS = ("uniform", "quniform", "loguniform", "qloguniform")
_TYPES = ("layer_choice", "input_choice", "choice", "randint", *_GRIDS)


class Malformed(ValueError):
    """The text is neither JSON nor JSON5."""


class _Object(dict[str, Any]):
    """A parsed JSON object, with the keys that were written more than once as ``repeated``."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counted = Counter(key for key, _ in pairs) if len(self) < len(pairs) else {}
        self.repeated = sorted(key for key, times in counted.items() if times > 1)


def parse(text: str) -> Any:
    """Read JSON, or else JSON5 (comments, trailing commas, single quotes).

    Raises Malformed if it is neither; the message gives line and column.
    """
    try:
        try:
            return json.loads(text, object_pairs_hook=_Object)
        except ValueError:
            if len(text) > _LONGEST_JSON5:
                raise
            return json5.loads(text, object_pairs_hook=_Object)
    except RecursionError:
        raise Malformed("nested too deeply") from None
    except ValueError as error:
        raise Malformed(" ".join(str(error).split()).replace("<string>:", "line ", 1)) from None


def check_space(obj: object) -> tuple[dict[str, Domain], dict[str, Clauses], list[Problem]]:
    """Return domains and conditions of a space, by key, and a list of everything that is wrong with its file."""
    if not isinstance(obj, dict):
        return {}, {}, [Problem("the search space", _shorten(obj), 'an object {key: {"_type": ..., "_value": ...}}')]
    found = [Problem(_place(key), "the key twice", "each key once") for key in getattr(obj, "repeated", [])]
    domains: dict[str, Domain] = {}
    conditions: dict[str, Any] = {}
    entries = list(expand_entries(obj))
    names = Counter(key for key, _ in entries)
    found += [Problem(_place(key), "the key twice", "each key once") for key in names if names[key] > 1]
    for key, entry in entries:
        if not isinstance(key, str) or not key:
            found.append(Problem(_place(key), "a key that is no text", "a name"))
        elif key.startswith("_"):
            found.append(Problem(_place(key), "a key that begins with _", "another name: those are kept for the tuner"))
        else:
            outcome = _check_entry(_place(key), entry)
            if isinstance(outcome, list):
                found += outcome
            else:
                domains[key] = outcome
            if isinstance(entry, dict) and "_when" in entry:
                conditions[key] = entry["_when"]
    if not obj:
        found.append(Problem("the search space", "no key at all", "at least one choice"))
    when, problems = check_conditions(conditions, domains, names)
    return domains, when, found + problems


def _check_entry(at: str, entry: object) -> Domain | list[Problem]:
    if not isinstance(entry, dict):
        return [Problem(at, _shorten(entry), 'an object {"_type": ..., "_value": ...}')]
    known = ("_type", "_value", "_when", "_fixed", *(["_levels"] if entry.get("_type") in _GRIDS else []))
    extra = [str(name) for name in entry if name not in known]
    found = [Problem(f"{at}.{name}", "an unknown field", f"only {', '.join(known)}") for name in extra]
    found += [Problem(f"{at}.{name}", "the field twice", "it once") for name in getattr(entry, "repeated", [])]
    kind = entry.get("_type")
    if not isinstance(kind, str) or kind not in _TYPES:
        instead = _INSTEAD.get(kind) if isinstance(kind, str) else None
        return [*found, Problem(f"{at}._type", _shorten(kind), instead or "one of " + ", ".join(_TYPES))]
    if "_value" not in entry:
        return [*found, Problem(at, "no _value", _VALUE_WANTED[kind])]
    outcome = _CHECKS[kind](f"{at}._value", entry["_value"])
    if "_levels" in entry and not isinstance(outcome, list) and not extra:
        outcome = _set_levels(f"{at}._levels", outcome, entry["_levels"])
    if isinstance(outcome, list) or found:
        return found + (outcome if isinstance(outcome, list) else [])
    if outcome.radix > MAX_RADIX:
        return [Problem(at, f"{rounded(outcome.radix)} options", "at most 2^62 a key: split it into several keys")]
    return outcome


def _check_input(at: str, value: Any) -> Domain | list[Problem]:
    if not isinstance(value, dict):
        return [Problem(at, _shorten(value), _VALUE_WANTED["input_choice"])]
    extra = [str(name) for name in value if name not in ("candidates", "n_chosen")]
    found = [Problem(f"{at}.{name}", "an unknown field", "only candidates and n_chosen") for name in extra]
    missing = [name for name in ("candidates", "n_chosen") if name not in value]
    found += [Problem(at, f"no {name}", _VALUE_WANTED["input_choice"]) for name in missing]
    names = value.get("candidates")
    if "candidates" in value:
        found += _check_names(f"{at}.candidates", names, "inputs")
    if found:
        return found
    assert isinstance(names, (list, tuple))
    n_chosen = value["n_chosen"]
    bounds = n_chosen if isinstance(n_chosen, (list, tuple)) else [n_chosen, n_chosen]
    if n_chosen is not None and not (
        len(bounds) == 2 and all(is_int(b) for b in bounds) and 0 <= bounds[0] <= bounds[1] <= len(names)
    ):
        wanted = f"null (any number), or an integer from 0 to {len(names)}, or two of them as [lowest, highest]"
        return [Problem(f"{at}.n_chosen", _shorten(n_chosen), wanted)]
    if isinstance(n_chosen, (list, tuple)):
        n_chosen = (int(bounds[0]), int(bounds[1]))
    return InputDomain(tuple(names), n_chosen)


def _check_choice(at: str, value: Any) -> Domain | list[Problem]:
    if not isinstance(value, (list, tuple)) or not value:
        return [Problem(at, _shorten(value), "a list of at least one value")]
    found, seen = [], set()
    for i, option in enumerate(value):
        here = f"{at}[{i}]"
        if isinstance(option, dict) and "_name" in option and not all(map(is_named, value)):
            found.append(Problem(here, "a nested space (_name)", "a _name, in quotes, in every option, or in none"))
        elif not _is_json(option):
            found.append(Problem(here, _shorten(option), "a JSON value, without NaN or infinity"))
        elif (same := identity(option)) in seen:
            found.append(Problem(here, f"{_shorten(option)} again", "each value once"))
        else:
            seen.add(same)
    return found or ChoiceDomain(tuple(value))


def _check_randint(at: str, value: Any) -> Domain | list[Problem]:
    whole = isinstance(value, (list, tuple)) and len(value) == 2 and all(is_number(v) and v == int(v) for v in value)
    if not whole or not value[0] < value[1]:
        return [Problem(at, _shorten(value), _VALUE_WANTED["randint"])]
    return RandintDomain(int(value[0]), int(value[1]))


def _check_quniform(at: str, value: Any) -> Domain | list[Problem]:
    numbers = isinstance(value, (list, tuple)) and len(value) == 3 and all(is_number(v) for v in value)
    if not numbers or not (value[0] <= value[1] and value[2] > 0 and abs(value[1] / value[2]) < MAX_RADIX):
        return [Problem(at, _shorten(value), _VALUE_WANTED["quniform"])]
    if abs(value[0] / value[2]) >= MAX_RADIX:
        return [Problem(at, _shorten(value), "a larger step: that is more than 2^62 values")]
    return QuniformDomain(*(float(v) for v in value))


def _check_range(kind: str, at: str, value: Any) -> Domain | list[Problem]:
    count = 3 if kind.startswith("q") else 2
    numbers = isinstance(value, (list, tuple)) and len(value) == count and all(is_number(v) for v in value)
    fine = numbers and value[0] <= value[1] and (value[0] > 0 or "log" not in kind)
    if not fine or (count == 3 and not (value[2] > 0 and value[1] / value[2] < MAX_RADIX)):
        return [Problem(at, _shorten(value), _VALUE_WANTED[kind])]
    return GridDomain(kind, float(value[0]), float(value[1]), float(value[2]) if count == 3 else None)


def _set_levels(at: str, domain: Domain, levels: Any) -> Domain | list[Problem]:
    if not is_int(levels) or not 2 <= levels <= MAX_LEVELS:
        return [Problem(at, _shorten(levels), f"the number of points to try, a whole number from 2 to {MAX_LEVELS}")]
    if isinstance(domain, QuniformDomain):
        return GridDomain(domain.type, domain.low, domain.high, domain.q, int(levels))
    assert isinstance(domain, GridDomain)
    return replace(domain, levels=int(levels))


def _check_names(at: str, value: Any, what: str) -> list[Problem]:
    if not isinstance(value, (list, tuple)) or not value:
        return [Problem(at, _shorten(value), f"a list of at least one of the {what}' names")]
    return [
        Problem(f"{at}[{i}]", _shorten(name), 'a name in quotes, such as "3"')
        for i, name in enumerate(value)
        if not isinstance(name, str)
    ]


_CHECKS: dict[str, Callable[[str, Any], Domain | list[Problem]]] = {
    "layer_choice": lambda at, value: _check_names(at, value, "candidates") or LayerDomain(tuple(value)),
    "input_choice": _check_input,
    "choice": _check_choice,
    "randint": _check_randint,
    "quniform": _check_quniform,
    **{kind: partial(_check_range, kind) for kind in ("uniform", "loguniform", "qloguniform")},
}
_VALUE_WANTED = {
    "layer_choice": "a list of the candidates' names",
    "input_choice": '{"candidates": [names], "n_chosen": k, null or [lowest, highest]}',
    "choice": "a list of at least one value",
    "randint": "[low, high], two integers with low < high (high itself is not drawn)",
    "quniform": "[low, high, q], three numbers with low <= high and a step q > 0 that is not too fine",
    "uniform": "[low, high], two numbers with low <= high",
    "loguniform": "[low, high], two numbers with 0 < low <= high",
    "qloguniform": "[low, high, q], three numbers with 0 < low <= high and a step q > 0 that is not too fine",
}


def _is_json(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_json(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    return value is None or isinstance(value, (str, bool)) or is_number(value)
