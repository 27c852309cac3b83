"""Times steps side by side, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

Step = Callable[[], object]
Clock = Callable[[], float]
WARM_UP = 2


def interleaved(
    steps: Sequence[Step], rounds: int, before: Step | None = None, clock: Clock = time.perf_counter
) -> list[list[float]]:
    """Return the seconds of each step in each of so many rounds, (steps, rounds); every round begins with another.

    Args:
        steps: to be timed.
        rounds: how often.
        before: runs before each round, untimed.
        clock: returns seconds.
    """
    for step in [*steps] * WARM_UP:
        step()
    seconds: list[list[float]] = [[] for _ in steps]
    for round_ in range(rounds):
        if before is not None:
            before()
        for i in range(len(steps)):
            at = (round_ + i) % len(steps)
            started = clock()
            steps[at]()
            seconds[at].append(clock() - started)
    return seconds


def ratios(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Of each pair."""
    return [x / y for x, y in zip(a, b, strict=True)]


def compare(a: Step, b: Step, pairs: int) -> tuple[float, float]:
    """Return the median ratio a/b over interleaved pairs, and the median step of b in ms."""
    first, second = interleaved((a, b), pairs)
    return statistics.median(ratios(first, second)), 1000 * statistics.median(second)
