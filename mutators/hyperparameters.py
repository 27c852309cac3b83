"""Hyper-parameters that are searched beside the network, declared where the trial uses them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from mutators.declarations import defaults, dry_run
from mutators.trial import receive
from search_spaces.checks import is_number
from search_spaces.domains import entry_of
from search_spaces.errors import SpaceError
from search_spaces.fixing import whole_of
from search_spaces.schema import Space


def hyperparameter(
    key: str,
    values: Iterable[object] | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
    q: float | None = None,
    levels: int | None = None,
    default: object = None,
) -> Any:
    """Return the value of a hyper-parameter in this trial.

    ``nas ss-gen`` writes it into the search space, as NNI's ``choice``, or as ``uniform``, ``loguniform``, ``quniform``
    or ``qloguniform``. Under NNI, and in a function that ``nas search`` calls, the value is the trial's own; in a trial
    that runs by itself it is the default. Declare all of them before the first forward of the model with choices, or
    step of an optimizer: there a dry run ends.

    Args:
        key: of the decision, which must not be one of the model's.
        values: to choose from, JSON; or else ``low`` and ``high``, both included.
        log: spread the range evenly in the logarithm, as for a learning rate.
        q: of a range, only its multiples.
        levels: of a range, how many points of it are searched; None: 33, or with ``q`` and without ``log`` all.
        default: None: the first of the values, or the middle of the range.

    Raises:
        SpaceError: the values or the range are not valid, the default is not among them, or in a dry run the key has
            other values elsewhere in the trial.
        RuntimeError: the search space of the experiment does not have the key; or see
            :func:`mutators.get_and_apply_next_architecture`.

    >>> hyperparameter("lr", low=1e-4, high=1e-2, log=True), hyperparameter("batch", [32, 64])
    (0.001, 32)
    """
    entry = _entry(values, low, high, log, q) | ({} if levels is None else {"_levels": levels})
    domain = Space.from_json({key: entry}).domains[key]
    value = default
    if default is None:
        value = domain.choice(0) if low is None or high is None else _middle(low, high, log, q)
    in_range = low is not None and high is not None and is_number(value) and low <= value <= high
    if not in_range and domain.problems(value):
        raise SpaceError(f"hyper-parameter {key!r}: the default {value!r} is not on offer: {entry}.")
    run = dry_run()
    if run is not None:
        run.declare({key: entry_of(whole_of(domain))})
    elif parameters := receive():
        if key in parameters:
            return parameters[key]
        raise RuntimeError(
            f"hyper-parameter {key!r} is not in this trial's parameters, and so not in the search space: write that "
            "anew by nas ss-gen. Where it does not find it, declare it before the model's first forward."
        )
    defaults[key] = value
    return value


def _entry(
    values: Iterable[object] | None, low: float | None, high: float | None, log: bool, q: float | None
) -> dict[str, object]:
    is_range = low is not None and high is not None
    if is_range == (values is not None) or (not is_range and (low, high, log, q) != (None, None, False, None)):
        raise SpaceError("a hyper-parameter has either a list of values, or low and high, and only then log and q.")
    if values is not None:  # NumPy's numbers as Python's
        return {"_type": "choice", "_value": [value.item() if hasattr(value, "item") else value for value in values]}
    kind = ("q" if q is not None else "") + ("log" if log else "") + "uniform"
    return {"_type": kind, "_value": [low, high] if q is None else [low, high, q]}


def _middle(low: float, high: float, log: bool, q: float | None) -> float:
    middle = math.sqrt(low) * math.sqrt(high) if log else low / 2 + high / 2
    stepped = middle if q is None else round(middle / q) * q
    return float(f"{min(max(stepped, low), high):.12g}")  # 0.001, where rounding errors make it 0.00100000000000000002
