"""``nas bench``: run a search of the user's own through the conformance suite, and compare it with ours."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nas_tuners.commands import CommandError
from nas_tuners.commands.contender import Contender, find_contender
from nas_tuners.search.algorithms import ALGORITHMS
from nas_tuners.search.base import Search
from nas_tuners.show.curves import draw_curves
from nas_tuners.show.style import check_drawing
from nas_tuners.testing.expecting import Check, find_reason
from nas_tuners.testing.quality import Curve, mean_and_error, measure
from nas_tuners.testing.suite import CHECKS, TUNER_CHECKS, describe_check
from nas_tuners.testing.tasks import Task, landscapes
from search_spaces.checks import whole
from search_spaces.errors import printable
from search_spaces.progress import Progress
from search_spaces.resolve import FAILURES

_BUDGETS = (25, 50, 100, 200)  # trials, after which the regret is printed
_UNLIKE = ("nsga2", "shrinking")  # searches that are not for the best of one score
_NAME = 16  # characters of a search's name in a table

MakeSeeded = Callable[[int], Search]
"""Makes a search with a seed."""
Results = dict[str, dict[str, list[Curve]]]
"""By task and search, a curve for each seed. A search that failed is missing."""


def execute(options: Namespace) -> int:
    """Print which checks a search passes, and its regret beside that of ours. Returns: 1 if it fails any."""
    if problems := whole("--trials", options.trials, 1) + whole("--seeds", options.seeds, 1):
        raise CommandError("\n".join(problems))
    if options.output is not None:
        check_drawing(options.output)
    contender = find_contender(options.tuner, options.numbers or [])
    with _quiet():
        failed = _run_checks(contender)
    results = _compare(contender, options.trials, options.seeds)
    if options.output is not None:
        _draw(results, options.output)
    return int(failed > 0 or any(contender.name not in curves for curves in results.values()))


def _run_checks(contender: Contender) -> int:
    """Print a line for each check, and two for one that fails. Returns: how many fail."""
    jobs: list[tuple[Check[Any], Callable[[], Any]]] = [(check, contender.make_search) for check in CHECKS]
    if contender.is_tuner:
        jobs += [(check, contender.make) for check in TUNER_CHECKS]
    failed = 0
    with Progress(len(jobs), "checks", quiet=5.0) as progress:
        for check, make in jobs:
            problem = _find_problem(check, make)
            what = describe_check(check).replace("``", "")
            print(f"pass  {what}" if problem is None else f"FAIL  {what}\n      {problem}", flush=True)
            failed += problem is not None
            progress.step()
    print(f"{len(jobs) - failed} of {len(jobs)} checks passed")
    return failed


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave unsaid what tuners log of failures and strangers, which the checks are made of."""
    log = logging.getLogger("nas_tuners")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _find_problem(check: Check[Any], make: Callable[[], Any]) -> str | None:
    try:
        check(make)
    except AssertionError as error:
        return printable(" ".join(str(error).split()))
    return None


def _compare(contender: Contender, trials: int, seeds: int) -> Results:
    """Run all searches on all tasks, and print a table for each task."""
    searches: dict[str, MakeSeeded] = {contender.name: contender.make_seeded}
    searches |= {name: partial(_make_ours, name) for name in _find_rivals()}
    budgets = [*[budget for budget in _BUDGETS if budget < trials][-3:], trials]
    how = "of one seed" if seeds == 1 else f"mean of {seeds} seeds +- its standard error"
    print(f"\nRegret in standard deviations: {how}.")
    tasks, results = landscapes(), Results()
    with Progress(len(tasks) * len(searches), "searches", quiet=5.0) as progress:
        for task in tasks:
            print(f"\n{task.name}\n{'after':{_NAME}}{''.join(f'{n:>14}' for n in budgets)}      ms", flush=True)
            curves = results[task.name] = {}
            for name, make in searches.items():
                progress.note = name
                found, row = _run(make, task, trials, seeds, budgets)
                if found:
                    curves[name] = found
                print(f"{_cut(name):{_NAME}}{row}", flush=True)
                progress.step()
    return results


def _find_rivals() -> list[str]:
    """Return the names of our searches for the best of one score."""
    return [name for name in ALGORITHMS if name not in _UNLIKE]


def _make_ours(name: str, seed: int) -> Search:
    return ALGORITHMS[name].search(seed=seed)


def _run(make: MakeSeeded, task: Task, trials: int, seeds: int, budgets: Sequence[int]) -> tuple[list[Curve], str]:
    """Run a search on a task. Returns: a curve for each seed, none if it failed, and the cells of its row."""
    try:
        curves = [measure(make(seed), task, trials, seed) for seed in range(seeds)]
    except FAILURES as error:
        return [], f"  failed: {printable(find_reason(error))}"
    regrets = np.array([curve.regret for curve in curves])
    if not np.isfinite(regrets).all():
        return [], "  failed: it has no result"
    mean, deviation = mean_and_error(regrets)
    cells = (f"{mean[n - 1]:.2f}" + (f" +- {deviation[n - 1]:.2f}" if seeds > 1 else "") for n in budgets)
    return curves, "".join(f"{cell:>14}" for cell in cells) + f"{np.mean([c.milliseconds for c in curves]):8.1f}"


def _cut(name: str) -> str:
    """Return the end of a name, which says more than its beginning, as far as there is room."""
    return name if len(name) < _NAME else f"...{name[4 - _NAME :]}"


def _draw(results: Results, path: Path) -> None:
    """Draw the tables to a file, and print its name."""
    panels = {
        task: {name: mean_and_error(np.array([c.regret for c in curves])) for name, curves in searches.items()}
        for task, searches in results.items()
    }
    draw_curves(panels, path, "regret, in standard deviations")
    print(f"\n{path}")
