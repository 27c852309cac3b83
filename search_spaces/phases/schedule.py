"""A schedule: the phases of a space, and drawing in them. A trainer and a tuner draw from the same object.

Options are ordered by size as numbers, whatever their order in the space.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.checks import is_int, is_number, whole
from search_spaces.domains import Domain, InputDomain, LayerDomain, QuniformDomain, RandintDomain
from search_spaces.errors import PhaseError
from search_spaces.fixing import FixedDomain
from search_spaces.phases.phase import (
    OpenOptions,
    Phase,
    check_tasks,
    find_elastic_parts,
    find_tasks,
    match_keys,
    phases_from_json,
    shorten_keys,
)
from search_spaces.schema import Space, Tokens
from search_spaces.values import GridDomain

_MOST = 10_000  # options of a range; a key with more is not elastic


@dataclass(frozen=True)
class Region:
    """The part of a space that is open: by key, the tokens on offer, largest option first where options are numbers."""

    keys: tuple[str, ...]
    allowed: tuple[Sequence[int], ...]
    sized: tuple[bool, ...]

    @cached_property
    def size(self) -> int:
        """Return the number of its architectures."""
        return math.prod(map(len, self.allowed))

    @cached_property
    def _counts(self) -> npt.NDArray[np.int64]:
        return np.array([len(tokens) for tokens in self.allowed], dtype=np.int64)

    @cached_property
    def _listed(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the keys that offer something else than 0, 1, 2, ..., and a row of tokens for each, padded with 0."""
        at = [i for i, tokens in enumerate(self.allowed) if not isinstance(tokens, range)]
        table = np.zeros((len(at), max((len(self.allowed[i]) for i in at), default=0)), dtype=np.int64)
        for row, i in enumerate(at):
            table[row, : len(self.allowed[i])] = self.allowed[i]
        return np.array(at, dtype=np.int64), table

    def draw(self, rng: np.random.Generator) -> Tokens:
        """Draw one architecture, uniformly and independently by key."""
        return tuple(self.draws(rng, 1)[0].tolist())

    def draws(self, rng: np.random.Generator, n: int) -> npt.NDArray[np.int64]:
        """Draw ``n`` architectures, uniformly and independently. Returns: (n, keys)."""
        rows = rng.integers(0, self._counts, size=(n, len(self.keys)))
        at, table = self._listed
        rows[:, at] = table[np.arange(len(at)), rows[:, at]]
        return rows

    def largest(self) -> Tokens:
        """Return the largest option of every key; where options are no numbers, the first."""
        return tuple(tokens[0] for tokens in self.allowed)

    def smallest(self) -> Tokens:
        """Return the smallest option of every key; where options are no numbers, the first."""
        return tuple(tokens[-1 if sized else 0] for tokens, sized in zip(self.allowed, self.sized, strict=True))

    def holds(self, tokens: Sequence[int]) -> bool:
        """Return whether an architecture of the space lies within."""
        return all(token in allowed for token, allowed in zip(tokens, self.allowed, strict=True))


class Schedule:
    """Phases of one space. ``phases`` and ``regions`` go together, by index.

    Args:
        space: what can be chosen.
        phases: in their order, as :class:`Phase` or as JSON; none at all is allowed.

    Raises:
        PhaseError: a pattern fits no key, options are not on offer or no numbers, a phase closes what was open before
            it, a name stands twice, or a budget is missing; all problems are listed.

    >>> space = Space.from_json({"a.depth": {"_type": "layer_choice", "_value": ["2", "4", "3"]}})
    >>> first = Phase("a", (("depth", 2),), budget=5)
    >>> schedule = Schedule(space, [first, {"name": "b", "open": {"depth": "all"}, "budget": None}])
    >>> schedule.phase(schedule.at(4)).name, schedule.allowed(0), schedule.allowed(1), schedule.largest(0)
    ('a', ((1, 2),), ((1, 2, 0),), (1,))
    """

    def __init__(self, space: Space, phases: Sequence[Phase | Mapping[str, Any]]) -> None:
        self.space, self.phases = space, phases_from_json(phases)
        self._by_size = {key: order_by_size(domain) for key, domain in space.domains.items()}
        problems = self._check_phases()
        self.regions = self._regions(problems)
        if problems:
            raise PhaseError("the phases do not fit this space:", problems)
        self._ends = list(itertools.accumulate(phase.budget or 0 for phase in self.phases))

    def __len__(self) -> int:
        return len(self.phases)

    def at(self, epoch: int) -> int:
        """Return the index of the phase that ``epoch``, counted from 0, belongs to; past the end: of the last.

        Raises:
            PhaseError: the epoch is no whole number from 0 up, or there are no phases.
        """
        if not is_int(epoch) or epoch < 0 or not self.phases:
            raise PhaseError(f"epoch is {epoch!r} of {len(self)} phases, wanted a whole number from 0 up, and a phase.")
        return min(bisect.bisect_right(self._ends, epoch), len(self) - 1)

    def phase(self, i: int) -> Phase:
        """Return the ``i``-th phase, from 0."""
        return self.phases[i]

    def region(self, i: int) -> Region:
        """Return the part of the space that is open in the ``i``-th phase."""
        return self.regions[i]

    def allowed(self, i: int) -> tuple[Sequence[int], ...]:
        """Return by key the tokens on offer in the ``i``-th phase, largest option first."""
        return self.regions[i].allowed

    def draw(self, rng: np.random.Generator, i: int) -> Tokens:
        """Draw an architecture of the ``i``-th phase, uniformly."""
        return self.regions[i].draw(rng)

    def largest(self, i: int) -> Tokens:
        """Return the largest architecture of the ``i``-th phase."""
        return self.regions[i].largest()

    def smallest(self, i: int) -> Tokens:
        """Return the smallest architecture of the ``i``-th phase."""
        return self.regions[i].smallest()

    def of_task(self, task: str | Sequence[str], phase: int | None = None) -> Region:
        """Return what is open when tasks are set by hand, as PaddleSlim's ``set_task`` does.

        Args:
            task: a name of :data:`TASKS`, or several; those not named are at their largest.
            phase: the last of them offers its ``phase + 2`` largest options; None: all.

        Raises:
            PhaseError: a task is unknown or has no key in this space, or ``phase`` is no whole number from 0 up.
        """
        tasks, present = [task] if isinstance(task, str) else task, find_tasks(self.space)
        problems = check_tasks(tasks, self.space)
        problems += whole("phase", phase, 0, optional=True)
        if problems:
            raise PhaseError("the task cannot be set:", problems)
        opened: dict[str, OpenOptions] = {part: "all" for name in tasks[:-1] for part in present[name]}
        opened |= dict.fromkeys(present[tasks[-1]], "all" if phase is None else int(phase) + 2)
        opened |= {part: 1 for part in find_elastic_parts(self.space) if part not in opened}
        return Schedule(self.space, [Phase(" ".join(tasks), tuple(opened.items()))]).regions[0]

    def _check_phases(self) -> list[str]:
        names = [phase.name for phase in self.phases]
        found = [f"phase {name!r}: the name stands twice" for name in sorted({n for n in names if names.count(n) > 1})]
        for phase in self.phases:
            for pattern, _ in phase.open:
                if not match_keys(self.space, pattern):
                    found.append(
                        f"phase {phase.name!r}: {pattern!r} fits no key; there are {shorten_keys(self.space.keys)}"
                    )
        found += [
            f"phase {phase.name!r} has no budget, and others come after it: wanted a whole number from 1 up"
            for phase in self.phases[:-1]
            if phase.budget is None
        ]
        return found

    def _regions(self, problems: list[str]) -> tuple[Region, ...]:
        """Return what is open in every phase, and add what is wrong to ``problems``."""
        columns = [self._column(key, domain, problems) for key, domain in self.space.domains.items()]
        rows = list(zip(*columns, strict=True))
        sized = [self._by_size[key] is not None for key in self.space.keys]
        return tuple(
            Region(self.space.keys, row, tuple(s and not isinstance(t, range) for s, t in zip(sized, row, strict=True)))
            for row in rows
        )

    def _column(self, key: str, domain: Domain | FixedDomain, problems: list[str]) -> list[Sequence[int]]:
        """Return the tokens of one key in every phase, and add what is wrong to ``problems``."""
        said = [phase.options(key) for phase in self.phases]
        anywhere: list[Sequence[int]] = [range(domain.radix)] * len(said)
        if isinstance(domain, FixedDomain):
            return anywhere
        order, names = self._by_size[key], _list_names(domain)
        if set(said) <= {None} or (order is None and said[0] == "all" and set(said) <= {None, "all"}):
            return anywhere
        if names is None or (order is None and (said[0] is None or any(is_int(options) for options in said))):
            problems.append(
                f"{key!r}: its options are no numbers, so none is the largest: "
                "name those to open, or leave it out and it is always open"
            )
            return anywhere
        every = tuple(range(domain.radix)) if order is None else order
        column: list[Sequence[int]] = []
        now = every[:1]
        for phase, options in zip(self.phases, said, strict=True):
            before, now = now if column else (), now if options is None else _open(names, every, options)
            if isinstance(options, tuple) and len(now) < len(options):
                problems.append(f"phase {phase.name!r}: {key!r} has not all of {list(options)}: {list(names)}")
            elif not set(before) <= set(now):
                problems.append(f"phase {phase.name!r} closes options of {key!r} that were open before it")
            column.append(now)
        return column


def order_by_size(domain: Domain | FixedDomain) -> tuple[int, ...] | None:
    """Return the tokens of a domain, largest option first; None where the options are no numbers.

    >>> order_by_size(LayerDomain(("3", "7", "1/2"))), order_by_size(LayerDomain(("conv", "skip")))
    ((1, 0, 2), None)
    """
    if isinstance(domain, FixedDomain):
        return (0,)
    if isinstance(domain, InputDomain):
        return None
    if isinstance(domain, (RandintDomain, QuniformDomain, GridDomain)):
        return tuple(range(domain.radix - 1, -1, -1)) if domain.radix <= _MOST else None
    numbers = [_to_fraction(option) for option in (domain.names if isinstance(domain, LayerDomain) else domain.options)]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        return None
    return tuple(sorted(range(len(known)), key=lambda token: -known[token]))


def _to_fraction(option: object) -> Fraction | None:
    if is_number(option):
        return Fraction(option)
    try:
        return Fraction(option) if isinstance(option, str) else None
    except (ValueError, ZeroDivisionError):
        return None


def _list_names(domain: Domain) -> tuple[str, ...] | None:
    """Return the options of a domain as text; None where they are sets of inputs, or too many to list."""
    if isinstance(domain, LayerDomain):
        return domain.names
    if isinstance(domain, InputDomain) or domain.radix > _MOST:
        return None
    return tuple(str(domain.choice(token)) for token in range(domain.radix))


def _open(names: Sequence[str], every: tuple[int, ...], options: OpenOptions) -> tuple[int, ...]:
    if isinstance(options, tuple):
        return tuple(token for token in every if names[token] in options)
    return every if options == "all" else every[:options]
