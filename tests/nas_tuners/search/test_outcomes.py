"""Limits on what trials report: kept by what is best, learnt by every search."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_tuners import Run
from nas_tuners.runs.run import load
from nas_tuners.search import NSGA2, Bayesian, Evolution, LocalSearch, RandomSearch, Search
from nas_tuners.search.algorithms import ALGORITHMS
from nas_tuners.search.outcomes import Outcomes
from search_spaces import Space
from search_spaces.errors import ConstraintError
from tests.nas_tuners.nas import Nas
from tests.spaces import SPACES

WIDE = Space.from_json(SPACES["20 x 4"])
LIMIT = {"latency_ms": 22}


def score(tokens: tuple[int, ...]) -> float:
    return float(np.sqrt(tokens).sum())


def latency(tokens: tuple[int, ...]) -> float:
    """30 on average, 22 for one in fifty."""
    return float(sum(tokens))


def drive(search: Search | Run, trials: int) -> None:
    for _ in range(trials):
        for proposal in search.ask():
            metrics = {"default": score(proposal.tokens), "latency_ms": latency(proposal.tokens)}
            search.tell(proposal.uid, metrics)


def test_violations_are_parts_of_the_limits() -> None:
    outcomes = Outcomes({"latency_ms": [10, 20], "memory": 4})
    assert outcomes.measure_violation({"latency_ms": 10, "memory": 4}) == 0
    assert outcomes.measure_violation({"latency_ms": 25, "memory": 5}) == pytest.approx(0.25 + 0.25)
    assert outcomes.measure_violation({"latency_ms": 4, "memory": 0}) == pytest.approx(0.6)
    assert Outcomes({"loss": [0, None]}).measure_violation({"loss": -0.5}) == 0.5


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "bayesian" else ()) for name in ALGORITHMS]
)
def test_the_best_keeps_them_whatever_the_search(name: str, tmp_path: Path) -> None:
    more = {"phase_budgets": 2} if name == "shrinking" else {}
    run = Run.start(
        ALGORITHMS[name].search(seed=1, outcome_constraints={"latency_ms": [None, 26]}, **more),
        WIDE,
        path=tmp_path / "journal.jsonl",
    )
    drive(run, 40)
    run.close()
    trials = run.search.trials.values()
    within = [trial.score for trial in trials if latency(trial.tokens) <= 26]
    assert run.search.best is not None and 0 < len(within) < 40 and run.search.best.score == max(within)
    assert {t.uid for t in trials if t.violation > 0} == {t.uid for t in trials if latency(t.tokens) > 26}
    shown = load(tmp_path / "journal.jsonl")[0].search
    assert shown.best == run.search.best and shown.trials == run.search.trials
    again = Run.resume(ALGORITHMS[name].search(**run.search.arguments), tmp_path / "journal.jsonl")
    assert again.search.best == run.search.best
    assert [p.tokens for p in again.ask(3)] == [p.tokens for p in run.search.ask(3)]
    again.close()


def share_within(search: Search, trials: int) -> float:
    search.setup(WIDE)
    drive(search, trials)
    latest = list(search.trials.values())[trials // 2 :]
    return float(np.mean([latency(trial.tokens) <= LIMIT["latency_ms"] for trial in latest]))


@pytest.mark.parametrize("make", [pytest.param(Bayesian, marks=pytest.mark.slow), Evolution, LocalSearch, NSGA2])
def test_they_are_learnt(make: Any) -> None:
    """Of random architectures one in fifty keeps the limit, and the score draws away from it."""
    several = {"objectives": {"default": "maximize", "latency_ms": "minimize"}} if make is NSGA2 else {}
    assert share_within(RandomSearch(seed=2, outcome_constraints=LIMIT), 80) < 0.1
    assert share_within(make(seed=2, outcome_constraints=LIMIT, **several), 80) > 0.3


def test_a_front_keeps_them() -> None:
    search = NSGA2({"default": "maximize", "latency_ms": "minimize"}, outcome_constraints={"latency_ms": 26})
    search.setup(WIDE)
    drive(search, 60)
    assert search.front and all(latency(best.tokens) <= 26 for best in search.front)


@pytest.mark.slow
def test_a_model_of_several_objectives_learns_them_too() -> None:
    search = Bayesian(
        objectives={"default": "maximize", "latency_ms": "minimize"}, outcome_constraints={"latency_ms": 26}, seed=3
    )
    search.setup(WIDE)
    drive(search, 50)
    latest = [latency(trial.tokens) for trial in list(search.trials.values())[25:]]
    assert np.mean(np.array(latest) <= 26) > 0.8 and len(search.front) > 3


@pytest.mark.parametrize("value", [None, "fast", math.nan, math.inf])
def test_a_result_without_a_limited_metric_is_a_failure(value: Any) -> None:
    search = RandomSearch(outcome_constraints=LIMIT)
    search.setup(WIDE)
    (proposal,) = search.ask()
    search.tell(proposal.uid, {"default": 1.0} | ({} if value is None else {"latency_ms": value}))
    assert search.trials[proposal.uid].state == "failed"
    assert "'latency_ms', which outcome_constraints limit, is" in str(search.trials[proposal.uid].reason)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"latency_ms": "0.6x"}, "what the largest network reports is not known"),
        ({"latency_ms": "fast"}, r"\['latency_ms'\] is 'fast'"),
        ({"latency_ms": [3, 2]}, "empty range"),
        ("latency_ms<=20", "constraints is 'latency_ms<=20'"),
    ],
)
def test_what_is_no_limit_is_an_error(given: Any, said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        RandomSearch(outcome_constraints=given)


FUNCTION = """
def score(choices):
    tokens = [choice["_idx"] for choice in choices.values()]
    return {"default": sum(tokens), "latency_ms": sum(tokens) / 2}
"""


def test_nas_search_and_show_tell_what_is_beyond(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(json.dumps(WIDE.to_json()))
    (tmp_path / "own.py").write_text(FUNCTION)
    words = ["search", "space.json", "--evaluate", "own:score", "--algorithm", "random", "--trials", "30", "-o", "run"]
    said = nas(*words, "--outcome-constraint", "latency_ms<=15", cwd=tmp_path)
    run, _ = load(tmp_path / "run" / "journal.jsonl")
    best = run.search.best
    assert best is not None and best.score <= 30 and f"best {best.score:.6g}" in said
    beyond = sum(trial.violation > 0 for trial in run.search.trials.values())
    shown = nas("show", "run", cwd=tmp_path)
    assert f"; {beyond} beyond the outcome constraints" in shown
    first = next(line for line in shown.splitlines() if line.startswith("   1"))
    assert first.split()[1] == str(best.uid)
    trials = json.loads(nas("show", "run", "--json", cwd=tmp_path))["trials"]
    assert sum("violation" in trial for trial in trials) == beyond > 0
    wrong = nas(*words, "--outcome-constraint", "latency_ms", cwd=tmp_path, code=1)
    assert "latency_ms" in wrong and len(wrong.splitlines()) <= 3
