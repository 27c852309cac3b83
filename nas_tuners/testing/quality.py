"""Measure how good a search is: how far the best that it has seen is from the best there is, trial by trial."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas_tuners.search.base import Search
from nas_tuners.testing.tasks import Evaluate, Task
from search_spaces import Tokens

Regrets = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A run of a search.

    Attributes:
        regret: (trials,), what the best result after each trial is worth less than the optimum.
        distinct: how many architectures were tried.
        milliseconds: a trial, all but its training.
    """

    regret: Regrets
    distinct: int
    milliseconds: float


def measure(search: Search, task: Task, trials: int, seed: int) -> Curve:
    """Run a search that has no space yet on a task."""
    task.optimum(seed)  # whatever is made once is not measured
    began = time.perf_counter()
    search.setup(task.space)
    tried = try_architectures(search, task.sees(seed), trials)
    spent = time.perf_counter() - began
    return Curve(trace_regret(task, tried, trials, seed), len(set(tried)), 1e3 * spent / max(len(tried), 1))


def try_architectures(search: Search, sees: Evaluate, trials: int, pending: int = 1) -> list[Tokens]:
    """Run trials, some at a time, of which the oldest ends first. Returns: what was tried, in the order of results."""
    tried, waiting = list[Tokens](), deque(search.ask(pending))
    while waiting and len(tried) < trials:
        proposal = waiting.popleft()
        score = sees(proposal.choices)
        _ = search.fail(proposal.uid) if score is None else search.tell(proposal.uid, score)
        tried.append(proposal.tokens)
        waiting += search.ask(1)
    return tried


def trace_regret(task: Task, tried: Sequence[Tokens], trials: int, seed: int) -> Regrets:
    """Return the regret of the best result after each of so many trials; the last stays, and before any it is infinite.

    Returns: (trials,).
    """
    optimum, sees, counts = task.optimum(seed), task.sees(seed), task.counts(seed)
    regret, most, best = list[float](), -math.inf, math.inf
    for tokens in tried[:trials]:
        choices = task.space.decode(tokens)
        score = sees(choices)
        if score is not None and score > most:
            most, best = score, optimum - float(counts(choices) or 0.0)
        regret.append(best)
    return np.array(regret + [best] * (trials - len(regret)))


def mean_and_error(regrets: Regrets) -> tuple[Regrets, Regrets]:
    """Return the mean over seeds and its standard error, 0 for a single one. (seeds, trials) to (trials,) each."""
    seeds = len(regrets)
    error = regrets.std(axis=0, ddof=1) / math.sqrt(seeds) if seeds > 1 else np.zeros(regrets.shape[1])
    return regrets.mean(axis=0), error
