"""Early stopping, noise and outcome constraints at once, in any order of events, with every search."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_tuners import Run
from nas_tuners.runs.run import load
from nas_tuners.search import Search
from nas_tuners.search.algorithms import ALGORITHMS
from search_spaces import Space
from tests.spaces import SPACES

OPTIONS: dict[str, Any] = {
    "early_stopping": {"rule": "asha", "reduction_factor": 2},
    "outcome_constraints": {"latency_ms": [None, 12]},
    "noise": "auto",
    "repeats": 2,
}
FIRST = {
    "bayesian": {"initial": 6},
    "nsga2": {"population_size": 6},
    "local": {"initial": 4},
    "evolution": {"candidate_pool_size": 6},
    "shrinking": {"phase_budgets": 1},
}


def metrics(tokens: Any, rng: np.random.Generator) -> dict[str, float]:
    score = float(np.sum(tokens)) + rng.normal()
    return {"default": math.nan if rng.random() < 0.05 else score, "latency_ms": float(np.sum(tokens[:7]))}


def drive(run: Run, rng: np.random.Generator, events: int) -> None:
    """Ask, report, tell, fail and stop, for pending trials and for others that are over."""
    for _ in range(events):
        search = run.search
        known = [*search.pending, *(trial.proposal for trial in list(search.trials.values())[-3:])]
        if len(search.pending) < 3 and (rng.random() < 0.5 or not known):
            run.ask(int(rng.integers(1, 4)))
            continue
        if not known:
            return
        proposal, what = known[rng.integers(len(known))], rng.random()
        if what < 0.4:
            run.report(proposal.uid, metrics(proposal.tokens, rng), int(rng.integers(1, 9)))
        elif what < 0.9:
            run.tell(proposal.uid, metrics(proposal.tokens, rng))
        elif what < 0.95:
            run.tell(proposal.uid, metrics(proposal.tokens, rng), resource=3)
        else:
            run.fail(proposal.uid, "no memory", learn=bool(rng.random() < 0.5))


def check(search: Search) -> None:
    counts, trials = search.counts, list(search.trials.values())
    assert counts.asked == len(trials) == counts.ended + counts.pending + counts.dropped
    told = [t for t in trials if t.state == "told" and not t.provisional]
    within = [t for t in told if t.violation == 0]
    assert all((t.violation > 0) == (t.metrics["latency_ms"] > 12) for t in told if t.metrics is not None)
    assert (search.best is None) == (not within)
    assert search.best is None or search.best.tokens in {t.tokens for t in within}
    first: dict[Any, int] = {}
    for trial in trials:
        if not trial.provisional:
            assert (trial.again is None) == (trial.tokens not in first)
            first.setdefault(trial.tokens, trial.uid)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("space", ["20 x 4", "nested twice, and in two places"])
def test_any_order_of_events_and_a_kill_after_any(name: str, space: str, tmp_path: Path) -> None:
    def make() -> Search:
        return ALGORITHMS[name].search(seed=4, **OPTIONS, **FIRST.get(name, {}))

    for seed in range(3):
        rng, path = np.random.default_rng(seed), tmp_path / f"{seed}.jsonl"
        run = Run.start(make(), Space.from_json(SPACES[space]), path=path)
        for _ in range(6):
            drive(run, rng, 12)
            check(run.search)
        assert load(path)[0].search.best == run.search.best
        wanted = [proposal.tokens for proposal in run.search.ask(2)]
        run.close()
        again = Run.resume(make(), path)
        assert str(list(again.search.trials.values())) == str(
            list(run.search.trials.values())[: len(again.search.trials)]
        )
        assert again.search.curves == run.search.curves and again.search.best == run.search.best
        assert [proposal.tokens for proposal in again.ask(2)] == wanted
        again.close()
