"""Progressive shrinking by the rules of PaddleSlim's OFA, as phases.

Once-for-all (Cai et al., ICLR 2020, arXiv:1908.09791). Tasks come one after the other; phase ``p`` of a task opens its
``p + 2`` largest options. Finished tasks have all of theirs open, later tasks the largest only.

Differs from PaddleSlim: the phased task is the current one in every order (there it is the last of a list, in which
width always is); an order of a single task has phases too; ``width`` is a task by that name.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from search_spaces.checks import is_int, whole
from search_spaces.errors import PhaseError
from search_spaces.phases.phase import (
    DEFAULT_ORDER,
    OpenOptions,
    Phase,
    check_tasks,
    find_elastic_parts,
    find_tasks,
    match_keys,
)
from search_spaces.schema import Space

MIT_PHASES = (
    Phase("kernel 1", (("kernel_size", 3),), 120, "kernel"),
    Phase("depth 1", (("depth", 2),), 25, "depth"),
    Phase("depth 2", (("depth", 3),), 120, "depth"),
    Phase("expand 1", (("expand_ratio", 2),), 25, "expand"),
    Phase("expand 2", (("expand_ratio", 3),), 120, "expand"),
)
"""The schedule of Once-for-all's authors, in epochs; before each phase of 120 there are 5 more of warm-up."""


def progressive(
    space: Space,
    elastic_order: Sequence[str] | None = None,
    n_epochs: Sequence[Sequence[int]] | None = None,
    budgets: int | Sequence[Sequence[int]] | None = None,
) -> tuple[Phase, ...]:
    """Return the phases of progressive shrinking by PaddleSlim's rule.

    Args:
        space: whose keys end with the names in :data:`TASKS`.
        elastic_order: tasks in their order; a task that it leaves out stays at its largest options. None: those of
            :data:`DEFAULT_ORDER` that the space has, which may be none.
        n_epochs: by task and phase, the last epoch, counted from 0 over all of them and inclusive: PaddleSlim's way.
        budgets: instead, how long each phase lasts; one number for all gives each task as many phases as it needs.

    Raises:
        PhaseError: tasks are unknown, overlap or have no keys, or the numbers are not as described; all are listed.
    """
    present = find_tasks(space)
    problems = [] if elastic_order is None else check_tasks(elastic_order, space)
    order = [task for task in DEFAULT_ORDER if present[task]] if elastic_order is None else elastic_order
    needed = [] if problems else [max(_count_options(space, part) for part in present[task]) - 1 for task in order]
    lengths, wrong = _find_lengths(order, needed, n_epochs, budgets)
    if problems + wrong:
        raise PhaseError("not a valid schedule:", problems + wrong)
    pinned = [part for part in find_elastic_parts(space) if not any(part in present[task] for task in order)]
    phases: list[Phase] = []
    for i, (task, own) in enumerate(zip(order, lengths, strict=True)):
        for p, length in enumerate(own):
            opened: dict[str, OpenOptions] = dict.fromkeys(present[task], p + 2)
            if p == 0:
                opened |= dict.fromkeys(present[order[i - 1]], "all") if i else dict.fromkeys(pinned, 1)
            phases.append(Phase(f"{task} {p}", tuple(opened.items()), length, task))
    return tuple(phases)


def _count_options(space: Space, part: str) -> int:
    return max(2, *(space.domains[key].radix for key in match_keys(space, part)))


def _find_lengths(
    order: Sequence[str], needed: Sequence[int], n_epochs: Any, budgets: Any
) -> tuple[list[list[int]], list[str]]:
    """Return the length of each phase of each task, and a list of problems."""
    if (n_epochs is None) == (budgets is None):
        return [], ["wanted either n_epochs or budgets"]
    if n_epochs is None and is_int(budgets):
        return [[int(budgets)] * n for n in needed], whole("budgets", budgets, 1)
    name, given, least = ("n_epochs", n_epochs, 0) if budgets is None else ("budgets", budgets, 1)
    if not isinstance(given, (list, tuple)) or len(given) != len(order):
        return [], [f"{name} is {given!r}, wanted {len(order)} lists, one for each of {list(order)}"]
    problems = [
        f"{name} of {task!r} is {own!r}, wanted a list of whole numbers from {least} up, one a phase"
        for task, own in zip(order, given, strict=True)
        if not (isinstance(own, (list, tuple)) and own and all(is_int(n) and n >= least for n in own))
    ]
    ends = [-1, *(int(n) for own in given if isinstance(own, (list, tuple)) for n in own if is_int(n))]
    lasting = [b - a for a, b in itertools.pairwise(ends)]
    if name == "n_epochs" and min(lasting, default=1) < 1:
        problems.append(f"n_epochs is {given!r}: each phase has to end after the one before it")
    if problems or name == "budgets":
        return [] if problems else [list(own) for own in given], problems
    lengths = iter(lasting)
    return [[next(lengths) for _ in own] for own in given], []
