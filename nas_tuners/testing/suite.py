"""The conformance suites: all checks of a search, and of a tuner's face to NNI."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from nas_tuners.search.base import Search
from nas_tuners.testing import proposals, repeats, results, tuners
from nas_tuners.testing.expecting import Check

if TYPE_CHECKING:
    from nas_tuners.hosts.nni.tuner import SearchTuner

CHECKS: tuple[Check[Search], ...] = (
    proposals.check_proposals,
    proposals.check_exhaustion,
    proposals.check_limits,
    proposals.check_batches,
    proposals.check_pending,
    results.check_any_order,
    results.check_unusable,
    results.check_failures,
    results.check_stopped,
    results.check_intermediate,
    results.check_late_results,
    results.check_strangers,
    results.check_metrics,
    results.check_minimize,
    repeats.check_seed,
    repeats.check_fresh_process,
    repeats.check_global_generators,
    repeats.check_copies,
    repeats.check_options,
    repeats.check_setup,
    repeats.check_resume,
)
"""What a search has to keep. Each takes what makes one, such as its class, and raises AssertionError."""

TUNER_CHECKS: tuple[Check[SearchTuner], ...] = (
    tuners.check_parameters,
    tuners.check_pairing,
    tuners.check_order,
    tuners.check_threads,
    tuners.check_unusable_metrics,
    tuners.check_silent_ends,
    tuners.check_end,
    tuners.check_changed_space,
    tuners.check_restart,
)
"""What a tuner has to keep under NNI. Each takes what makes one, such as its class, and raises AssertionError."""


def check_search(make: Callable[[], Search]) -> None:
    """Check that a search keeps all promises of one.

    Args:
        make: makes it, each time anew with the same arguments, and without ``constraints``; its class will do if that
            needs none.

    Raises:
        AssertionError: it breaks one; all that it breaks are named, with what came and what was wanted.
    """
    _raise_all(CHECKS, make)


def check_tuner(make: Callable[[], SearchTuner]) -> None:
    """Check that a tuner keeps all promises to NNI, and its search those of one.

    Args:
        make: makes it, each time anew with the same arguments, which maximize; its class will do if that needs none.

    Raises:
        AssertionError: it breaks one; all that it breaks are named, with what came and what was wanted.
    """
    _raise_all(TUNER_CHECKS, make)
    check_search(lambda: search_of(make()))


def search_of(tuner: SearchTuner) -> Search:
    """Return the search of a tuner that has no space yet."""
    return tuner._search


def describe_check(check: Check[Any]) -> str:
    """Return what a check checks, as its docstring says.

    >>> describe_check(proposals.check_pending)
    'Propose 300 architectures before it is told a result'
    """
    return (check.__doc__ or "").partition("\n")[0].rstrip(".")


def _raise_all(checks: Iterable[Check[Any]], make: Callable[[], Any]) -> None:
    problems = []
    for check in checks:
        try:
            check(make)
        except AssertionError as error:
            problems.append(f"{describe_check(check)}: {error}")
    if problems:
        raise AssertionError("\n".join(problems))
