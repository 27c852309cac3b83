"""Fault 10: NaN, infinity and whatever is no number are failures like any other, under every ``on_failure``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_tuners import Run, SearchTuner, run_search
from nas_tuners.runs.run import load
from nas_tuners.search import Annealing, Evolution, RandomSearch, Search, Shrinking
from search_spaces import Space
from tests.spaces import layer

SPACE = {"a": layer("x", "y", "z"), "b": layer("p", "q")}
NO_NUMBERS = [
    *(math.nan, math.inf, -math.inf, "nan", "0.9", None, [0.9], True, np.float64("nan"), {"default": math.nan}),
    *({"default": math.inf, "macs": 3}, {"accuracy": 0.9}, {"default": None}, {"default": "inf"}),
]


class Listening(RandomSearch):
    """Remembers what it learnt."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.learnt: list[float] = []

    def _learn(self, tokens: tuple[int, ...], score: float) -> None:
        self.learnt.append(score)


def report(tuner: SearchTuner, value: Any, times: int = 1) -> list[int]:
    """Let so many trials report ``value``. Returns: the uids that they had."""
    uids = []
    for number in range(times):
        parameters = tuner.generate_parameters(number)
        uids.append(parameters["_uid"])
        tuner.receive_trial_result(number, parameters, value, trial_job_id=f"j{number}")
        tuner.trial_end(number, True)
    return uids


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_fault_10_retry_skip_and_worst_hold_for_what_is_no_number(value: Any) -> None:
    for policy, learnt in (("worst", [-math.inf]), ("skip", []), ("retry", [-math.inf])):
        search = Listening()
        tuner = SearchTuner(search, on_failure=policy, retries=2)
        tuner.update_search_space(SPACE)
        assert report(tuner, value, 4 if policy == "retry" else 1) == ([0, 0, 0, 1] if policy == "retry" else [0])
        assert search.learnt == learnt
        assert search.counts.failed == 1 and search.counts.told == 0
        assert search.trials[0].reason and search.best is None


def test_fault_10_a_retry_that_gives_a_number_counts() -> None:
    tuner = SearchTuner(search := Listening(), on_failure="retry")
    tuner.update_search_space(SPACE)
    report(tuner, math.nan)
    parameters = tuner.generate_parameters(7)
    tuner.receive_trial_result(7, parameters, 0.5, trial_job_id="j7")
    assert parameters["_uid"] == 0 and search.learnt == [0.5] and search.counts.failed == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("make", [Annealing, Evolution, RandomSearch, Shrinking])
@pytest.mark.parametrize("mode", ["maximize", "minimize"])
def test_fault_10_in_a_search_it_is_what_fail_is(make: type[Search], value: float, mode: str) -> None:
    one, other = make(seed=2), make(seed=2)
    for search in (one, other):
        search.setup(Space.from_json(SPACE), mode)
    for number in range(6):
        (proposal,), _ = one.ask(), other.ask()
        for search in (one, other):
            if number % 2:
                search.tell(proposal.uid, float(number))
            elif search is one:
                assert search.tell(proposal.uid, value)
            else:
                assert search.fail(proposal.uid, f"the metric is {value}")
    assert one.trials == other.trials and one.counts == other.counts and one.best == other.best


def test_fault_10_a_run_without_nni_and_its_journal(tmp_path: Path) -> None:
    def evaluate(choices: Any) -> Any:
        number = 2 * choices["a"]["_idx"] + choices["b"]["_idx"]
        return [1.0, math.nan, np.float32("inf"), {"default": -math.inf}, 4.0, 5.0][number]

    run = Run.start(RandomSearch(), Space.from_json(SPACE), path=tmp_path / "journal.jsonl")
    run_search(run, evaluate, trials=6)
    run.close()
    again, _ = load(tmp_path / "journal.jsonl")
    for search in (run.search, again.search):
        assert (search.counts.told, search.counts.failed) == (3, 3)
        assert search.best is not None and search.best.score == 5.0
        reasons = {trial.reason for trial in search.trials.values() if trial.state == "failed"}
        assert reasons == {"the metric is nan", "the metric is inf", "the metric is -inf"}


def test_fault_10_journals_that_told_it_as_a_result_replay_as_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    run = Run.start(RandomSearch(), Space.from_json(SPACE), path=path)
    run.ask()
    run.close()
    with open(path, "a") as file:
        file.write('{"event": "tell", "uid": 0, "metrics": {"default": "nan"}, "job": null}\n')
    assert load(path)[0].search.trials[0].state == "failed"
