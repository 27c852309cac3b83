"""Noisy results: what leads is evaluated again, and the best is by posterior mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_tuners import Run
from nas_tuners.runs.journal import read
from nas_tuners.runs.run import load
from nas_tuners.search import NSGA2, Bayesian, Evolution, RandomSearch, Search, Shrinking
from nas_tuners.search.algorithms import ALGORITHMS
from nas_tuners.search.noise import Readings
from search_spaces import Space
from tests.nas_tuners.nas import Nas
from tests.spaces import SPACES

WIDE = Space.from_json(SPACES["20 x 4"])


def score(tokens: Any) -> float:
    return float(np.sqrt(tokens).sum())


class Noisy:
    """A score with an error that hangs on the architecture, and on how often it was seen."""

    def __init__(self, deviation: float) -> None:
        self.deviation, self.seen = deviation, dict[tuple[int, ...], int]()

    def __call__(self, tokens: tuple[int, ...]) -> float:
        time = self.seen[tokens] = self.seen.get(tokens, 0) + 1
        return score(tokens) + self.deviation * float(np.random.default_rng([time, *tokens]).normal())


def drive(search: Search | Run, trials: int, evaluate: Any) -> None:
    for _ in range(trials):
        for proposal in search.ask():
            search.tell(proposal.uid, evaluate(proposal.tokens))


def test_posterior_means_by_hand() -> None:
    """Noise 0.5 from one pair that differs by 1; means 1, 2 and 6 with a mean of 3, a variance of 7, of which noise
    takes (0.25 + 0.5 + 0.5) / 3."""
    readings = Readings("repeats", 3)
    for tokens, value in (((0,), 0.5), ((1,), 2.0), ((2,), 6.0), ((0,), 1.5)):
        readings.add(tokens, value)
    between = 7 - 1.25 / 3
    kept = between / (between + 0.5)
    found = readings.estimate((2,))
    assert (found.mean, found.error, found.results) == (
        pytest.approx(3 + kept * 3),
        pytest.approx((kept * 0.5) ** 0.5),
        1,
    )
    kept = between / (between + 0.25)
    assert readings.estimate((0,)).mean == pytest.approx(3 - kept * 2)
    assert readings.leader == (2,) and readings.due == (2,)
    for _ in range(2):
        readings.add((2,), 6.0)
    assert readings.leader == (2,) and readings.due is None


def test_without_repeats_nothing_is_known_of_the_noise() -> None:
    readings = Readings("auto", 2)
    readings.add((0,), 1.0)
    readings.add((1,), 2.0)
    assert readings.estimate((1,)).mean == 2.0 and readings.estimate((1,)).error == 0.0
    readings.add((1,), 2.0)
    readings.add((0,), 1.0)
    readings.add((2,), 3.0)
    assert readings.due is None  # two architectures whose results are equal: there is no noise


@pytest.mark.parametrize("mode", ["maximize", "minimize"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "bayesian" else ()) for name in ALGORITHMS]
)
def test_every_search_measures_its_leader_again_and_goes_on_after_a_kill(name: str, mode: str, tmp_path: Path) -> None:
    def make() -> Search:
        first = {"bayesian": {"initial": 6}, "nsga2": {"population_size": 6}, "local": {"initial": 4}}
        first |= {"evolution": {"candidate_pool_size": 6}, "shrinking": {"phase_budgets": 1}}
        return ALGORITHMS[name].search(seed=2, noise="repeats", **first.get(name, {}))

    run = Run.start(make(), WIDE, mode, tmp_path / "journal.jsonl")
    drive(run, 30, Noisy(2.0))
    run.close()
    search = run.search
    again = [trial for trial in search.trials.values() if trial.again is not None]
    assert 3 <= len(again) <= 15
    assert all(search.trials[t.again].tokens == t.tokens and t.again < t.uid for t in again if t.again is not None)
    assert not any(search.trials[t.uid - 1].again is not None for t in again)  # at most one in two
    best = search.best
    assert best is not None and best.error is not None
    sign = 1 if mode == "maximize" else -1
    estimates = {t.tokens: search.readings.estimate(t.tokens).mean for t in search.trials.values() if not t.provisional}
    assert sign * best.score == max(estimates.values()) and best.tokens == search.readings.leader

    assert load(tmp_path / "journal.jsonl")[0].search.best == best
    lines = (tmp_path / "journal.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "journal.jsonl").write_text("".join(lines[:40]))
    resumed = Run.resume(make(), tmp_path / "cut" / "journal.jsonl")
    for event in read(tmp_path / "journal.jsonl")[0][40:]:
        if event["event"] == "ask":
            assert [list(p.tokens) for p in resumed.ask(len(event["tokens"]))] == event["tokens"]
        else:
            resumed.tell(event["uid"], event["metrics"])
    resumed.close()
    assert (tmp_path / "cut" / "journal.jsonl").read_text() == "".join(lines)


def test_the_luckiest_result_is_not_the_best() -> None:
    """One that is bad was lucky once."""
    search = RandomSearch(noise="repeats", repeats=4, seed=1)
    search.setup(WIDE)
    lucky: tuple[int, ...] | None = None
    for _ in range(40):
        for proposal in search.ask():
            value = 0.3 if proposal.tokens == lucky else 0.5 + 0.01 * (sum(proposal.tokens) % 3)
            if len(search.trials) == 6 and lucky is None:
                lucky, value = proposal.tokens, 0.9
            search.tell(proposal.uid, value)
    assert lucky is not None and search.best is not None and search.best.tokens != lucky
    assert search.best.score < 0.55


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["auto", "repeats"])
def test_where_a_search_has_converged_they_find_the_better_ones(noise: str) -> None:
    """Of 256 architectures, by 150 noisy results."""
    small = Space.from_json({f"k{i}": {"_type": "layer_choice", "_value": list("abcd")} for i in range(4)})

    def regret(noise: str, seed: int) -> float:
        search = Evolution(seed=seed, noise=noise)
        search.setup(small)
        drive(search, 150, Noisy(0.7))
        assert search.best is not None
        return score((3,) * 4) - score(search.best.tokens)

    def mean(noise: str) -> float:
        return float(np.mean([regret(noise, seed) for seed in range(20)]))

    assert mean(noise) < 0.8 * mean("none")


def test_where_nothing_is_noisy_auto_repeats_hardly_anything() -> None:
    search = Evolution(seed=0, noise="auto")
    search.setup(WIDE)
    drive(search, 60, score)
    assert 1 <= sum(trial.again is not None for trial in search.trials.values()) <= 4


def test_asks_before_results_repeat_nothing_twice() -> None:
    search = RandomSearch(noise="repeats")
    search.setup(WIDE)
    drive(search, 6, Noisy(1.0))
    proposals = search.ask(4)
    assert [search.trials[p.uid].again is not None for p in proposals] == [True, False, False, False]
    assert all(search.trials[p.uid].again is None for p in search.ask(4))  # the leader is under way


def test_a_repeat_that_fails_is_no_result() -> None:
    search = Evolution(noise="repeats", candidate_pool_size=4)
    search.setup(WIDE)
    drive(search, 6, score)
    (proposal,) = search.ask()
    first = search.trials[proposal.uid].again
    assert first is not None
    before, best = search.readings.count(proposal.tokens), search.best
    search.fail(proposal.uid, "no memory")
    assert search.readings.count(proposal.tokens) == before and search.best == best


@pytest.mark.parametrize("ends", ["fail", "stop"])
def test_repeats_that_never_have_a_result_end(ends: str) -> None:
    search = RandomSearch(noise="repeats", repeats=3, early_stopping="asha")
    search.setup(Space.from_json({"a": {"_type": "layer_choice", "_value": list("abcdef")}}))
    while proposals := search.ask():
        for proposal in proposals:
            if search.trials[proposal.uid].again is None:
                search.tell(proposal.uid, score(proposal.tokens))
            elif ends == "fail":
                search.fail(proposal.uid, "no memory")
            else:
                search.tell(proposal.uid, 0.0, resource=1)
        assert search.counts.asked < 30
    assert search.finished


def test_an_exhausted_space_is_measured_again_to_the_end() -> None:
    search = RandomSearch(noise="repeats", repeats=2)
    search.setup(Space.from_json({"a": {"_type": "layer_choice", "_value": list("abcdef")}}))
    noisy = Noisy(0.3)
    while proposals := search.ask():
        for proposal in proposals:
            search.tell(proposal.uid, noisy(proposal.tokens))
    assert search.finished and search.exhausted
    leader = search.readings.leader
    assert leader is not None and search.readings.count(leader) == 2


def test_a_changed_space_keeps_them(tmp_path: Path) -> None:
    run = Run.start(RandomSearch(noise="repeats"), WIDE, path=tmp_path / "journal.jsonl")
    drive(run, 20, Noisy(2.0))
    best, again = run.search.best, [t.again for t in run.search.trials.values()]
    run.change_space(Space.from_json(dict(reversed(WIDE.to_json().items()))))
    assert best is not None and run.search.best is not None
    assert (run.search.best.uid, run.search.best.score) == (best.uid, pytest.approx(best.score))
    assert [t.again for t in run.search.trials.values()] == again
    run.close()


def test_early_phases_of_shrinking_are_not_measured_again() -> None:
    search = Shrinking(phase_budgets=3, noise="repeats")
    search.setup(Space.from_json({"a.kernel_size": {"_type": "choice", "_value": [3, 5, 7]}}))
    for proposal in search.ask(3):
        search.tell(proposal.uid, 1.0)
    assert search.readings.leader is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"noise": "some"}, "noise is 'some', wanted one of 'auto', 'none', 'repeats'"),
        ({"noise": None}, "noise is None"),
        ({"repeats": 1}, "repeats is 1, wanted a whole number from 2 up"),
    ],
)
def test_bad_arguments_are_refused(arguments: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RandomSearch(**arguments)


@pytest.mark.parametrize("make", [NSGA2, Bayesian])
def test_it_is_for_one_objective(make: Any) -> None:
    with pytest.raises(ValueError, match="leave out one of noise and objectives"):
        make(objectives={"default": "maximize", "macs": "minimize"}, noise="auto")


FUNCTION = """
import itertools, random
rng = random.Random(1)

def score(choices):
    return sum(choice["_idx"] for choice in choices.values()) + 5 * rng.random()
"""


def test_nas_search_and_show_print_both(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(json.dumps(WIDE.to_json()))
    (tmp_path / "own.py").write_text(FUNCTION)
    words = "search space.json --evaluate own:score --algorithm random --trials 30 -o run --noise auto --repeats 2"
    said = nas(*words.split(), cwd=tmp_path)
    best = load(tmp_path / "run" / "journal.jsonl")[0].search.best
    assert best is not None and f"best {best.score:.6g} +- {best.error:.2g} of {best.results} result" in said
    shown = nas("show", "run", cwd=tmp_path)
    assert "expected        +-  results   their mean" in shown
    first = next(line.split() for line in shown.splitlines() if line.startswith("   1"))
    assert first[1:3] == [str(best.uid), f"{best.score:.6g}"]
    summary = json.loads(nas("show", "run", "--json", cwd=tmp_path))
    assert summary["best"]["mean"] == best.score and summary["best"]["error"] == best.error
    assert any("again" in trial for trial in summary["trials"])
    wrong = nas(*words.replace("auto", "often").split(), cwd=tmp_path, code=1)
    assert "noise is 'often'" in wrong and len(wrong.splitlines()) <= 3
