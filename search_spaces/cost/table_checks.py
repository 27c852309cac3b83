"""Check the numbers of a cost table. Each check returns a list of problems (where, got, wanted)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from search_spaces.checks import is_number
from search_spaces.domains import is_hyperparameter
from search_spaces.fixing import whole_of
from search_spaces.schema import Space

FORMAT = 1
JOINT_FORMAT = 2
"""Of a table with joint terms: a reader that knows none must refuse it rather than leave them out."""

MAX_OPTIONS = 4096
"""The most options of a key in a table."""
MAX_CELLS = 2**20
"""The most costs of a joint term: 8 MB, and ten times that as JSON."""
MAX_KEYS = 20
"""The most keys of a joint term: with two options each they have 2^20 costs already."""


def check_file(data: object) -> list[str]:
    """Check the form of a table's file, before its space and its numbers are read."""
    if not isinstance(data, dict) or data.get("format") not in (FORMAT, JOINT_FORMAT):
        return [f"wanted an object with format ({FORMAT} or {JOINT_FORMAT}: a table of format 1 has no joint terms), "
                "space, digest, fixed and options"]  # fmt: skip
    found = [f"no {name!r}" for name in ("space", "digest", "fixed", "options") if name not in data]
    if ("joint" in data) != (data["format"] == JOINT_FORMAT):
        found.append(f"'joint' has to be there in format {JOINT_FORMAT}, and cannot be in format {FORMAT}")
    return found


def check_costs(space: Space, fixed: object, options: object, joint: object) -> list[str]:
    """Check that these are the costs of a table of ``space``; ``joint`` may be None."""
    if not isinstance(fixed, Mapping) or not fixed:
        return [f"fixed is {fixed!r}, wanted an object {{metric: cost}} with at least one metric"]
    if not isinstance(options, Mapping):
        return [f"options is {options!r}, wanted an object {{metric: {{key: costs}}}}"]
    if joint is not None and not isinstance(joint, Mapping):
        return [f"joint is {joint!r}, wanted an object {{metric: [[keys, costs], ...]}}"]
    priced = {key for keys in options.values() if isinstance(keys, Mapping) for key in keys}
    found = [
        f"key {key!r} has {radix} options, wanted at most {MAX_OPTIONS}: split it into several keys"
        for key, radix in zip(space.keys, space.radices, strict=True)
        if radix > MAX_OPTIONS and (key in priced or not is_hyperparameter(whole_of(space.domains[key])))
    ]
    if found:
        return found
    found += [f"fixed[{m!r}] is {cost!r}, wanted a finite number" for m, cost in fixed.items() if not is_number(cost)]
    terms = {metric: given for metric, given in (joint or {}).items() if given}
    missing = [metric for metric in fixed if metric not in options and metric not in terms]
    found += [f"options has no metric {metric!r}, which fixed has" for metric in missing]
    for name, given in (("options", options), ("joint", terms)):
        found += [f"fixed has no metric {metric!r}, which {name} has" for metric in given if metric not in fixed]
    for metric in fixed:
        if metric in options:
            found += _check_options(f"options[{metric!r}]", space, options[metric], metric in terms)
        if metric in terms:
            found += _check_joint(f"joint[{metric!r}]", space, terms[metric])
    return found


def _check_options(at: str, space: Space, keys: object, partly: bool) -> list[str]:
    if not isinstance(keys, Mapping):
        return [f"{at} is {keys!r}, wanted an object {{key: costs}}"]
    wanted = [key for key in space.keys if not (partly or is_hyperparameter(whole_of(space.domains[key])))]
    found = [f"{at} has no key {key!r}" for key in wanted if key not in keys]
    found += [f"{at} has key {key!r}, which is not in the space" for key in keys if key not in space.domains]
    for key, radix in zip(space.keys, space.radices, strict=True):
        if key not in keys:
            continue
        costs = keys[key]
        if not isinstance(costs, (list, tuple, np.ndarray)) or len(costs) != radix:
            got = f"{len(costs)} costs" if hasattr(costs, "__len__") else repr(costs)
            found.append(f"{at}[{key!r}]: got {got}, wanted a list of {radix}, one an option")
        else:
            wrong = (i for i, cost in enumerate(costs) if not is_number(cost))
            found += [f"{at}[{key!r}][{i}] is {costs[i]!r}, wanted a finite number" for i in wrong]
    return found


def _check_joint(at: str, space: Space, terms: object) -> list[str]:
    if not isinstance(terms, (list, tuple)):
        return [f"{at} is {terms!r}, wanted a list of [keys, costs]"]
    found = []
    for number, term in enumerate(terms):
        where = f"{at}[{number}]"
        if not isinstance(term, (list, tuple)) or len(term) != 2:
            found.append(f"{where} is {_shorten(term)}, wanted a pair [keys, costs]")
        else:
            found += _check_term(where, space, *term)
    return found


def _check_term(where: str, space: Space, keys: object, costs: object) -> list[str]:
    wanted = f"wanted 2 to {MAX_KEYS} different keys of the space"
    if not isinstance(keys, (list, tuple)) or not all(isinstance(key, str) for key in keys):
        return [f"{where} has keys {_shorten(keys)}, {wanted}"]
    if not 2 <= len(keys) <= MAX_KEYS or len(set(keys)) < len(keys):
        return [f"{where} has keys {_shorten(list(keys))}, {wanted}"]
    strange = [key for key in keys if key not in space.domains]
    if strange:
        return [f"{where} has keys {strange}, which are not in the space"]
    shape = tuple(space.domains[key].radix for key in keys)
    if math.prod(shape) > MAX_CELLS:
        return [f"{where} of {list(keys)} has {math.prod(shape)} costs, wanted at most {MAX_CELLS}: split it"]
    cells = flatten_costs(costs, shape)
    if cells is None:
        got = f"an array {costs.shape}" if isinstance(costs, np.ndarray) else _shorten(costs)
        return [f"{where} of {list(keys)} has costs {got}, wanted nested lists of {' x '.join(map(str, shape))}"]
    wrong = [i for i, cost in enumerate(cells) if not is_number(cost)]
    places = [(list(map(int, np.unravel_index(i, shape))), cells[i]) for i in wrong]
    return [f"{where} of {list(keys)} has at {at} {_shorten(cost)}, wanted a finite number" for at, cost in places]


def flatten_costs(costs: Any, shape: Sequence[int]) -> list[Any] | None:
    """Return nested lists, or an array, as one list, the last key's options fastest; None if the shape is another."""
    cells = [costs.tolist() if isinstance(costs, np.ndarray) else costs]
    for radix in shape:
        if not all(isinstance(cell, (list, tuple)) and len(cell) == radix for cell in cells):
            return None
        cells = [inner for cell in cells for inner in cell]
    return cells


def _shorten(got: object) -> str:
    text = repr(got)
    return text if len(text) <= 80 else text[:77] + "..."


def compare_spaces(ours: Space, theirs: Space, where: str = "the table", ignored: Collection[str] = ()) -> list[str]:
    """List the differences between the space of ``where``, which is ours, and another, but for ``ignored`` keys."""
    mine, yours = ([key for key in space.keys if key not in ignored] for space in (ours, theirs))
    found = [f"key {key!r} is in {where} only" for key in mine if key not in theirs.domains]
    found += [f"key {key!r} is not in {where}" for key in yours if key not in ours.domains]
    for key in mine:
        if key in theirs.domains and ours.domains[key] != theirs.domains[key]:
            a, b = ours.domains[key], theirs.domains[key]
            found.append(f"key {key!r} is {a.type} {a.to_json()} in {where}, {b.type} {b.to_json()} in the space")
        elif key in theirs.domains and ours.when.get(key) != theirs.when.get(key):
            found.append(f"key {key!r} matters under other conditions (_when) in {where} than in the space")
    return found
