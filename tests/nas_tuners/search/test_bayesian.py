"""The search with a model needs fewest trials; the proposals of a model that is wrong are still good ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nas_tuners.search import Bayesian, Evolution, LocalSearch, RandomSearch
from nas_tuners.search.algorithms import ALGORITHMS, choose_algorithm
from search_spaces import Space, Tokens
from tests.spaces import SPACES, layer

WIDE = Space.from_json(SPACES["20 x 4"])


def additive(seed: int) -> tuple[Callable[[Tokens], float], float]:
    """A sum over the keys, where every third meets the next. Returns: it, and a bound of its best."""
    rng = np.random.default_rng(seed)
    effects, joint = rng.normal(size=(20, 4)), 0.5 * rng.normal(size=(7, 4, 4))

    def value(tokens: Tokens) -> float:
        own = effects[np.arange(20), list(tokens)].sum()
        return float(own + sum(joint[i, tokens[3 * i], tokens[min(3 * i + 1, 19)]] for i in range(7)))

    return value, float(effects.max(axis=1).sum())


def best_of(search: Any, value: Callable[[Tokens], float], trials: int, pending: int = 1) -> float:
    search.setup(WIDE)
    waiting = search.ask(pending)
    for _ in range(trials):
        proposal = waiting.pop(0)
        search.tell(proposal.uid, value(proposal.tokens))
        waiting += search.ask()
    return float(search.best.score)


@pytest.mark.slow
def test_it_needs_half_the_trials_of_evolution() -> None:
    ahead = []
    for seed in range(6):
        value, _ = additive(seed)
        ahead.append(best_of(Bayesian(seed=seed), value, 60) - best_of(Evolution(seed=seed), value, 120))
    assert np.mean(ahead) > 0


@pytest.mark.slow
def test_eight_pending_trials_cost_it_little() -> None:
    """Each is counted at its expected score, so that all of them differ."""
    behind = []
    for seed in range(4):
        value, high = additive(seed)
        one, eight = best_of(Bayesian(seed=seed), value, 60), best_of(Bayesian(seed=seed), value, 72, pending=8)
        behind.append((one - eight) / high)
    assert np.mean(behind) < 0.03


def test_many_asked_for_at_once_are_chosen_not_drawn() -> None:
    value, _ = additive(0)
    search = Bayesian(seed=0)
    best_of(search, value, 40)
    asked = search.ask(30)
    drawn = WIDE.sample_tokens(np.random.default_rng(0), 1000).tolist()
    assert len({proposal.tokens for proposal in asked}) == 30
    ordinary = np.quantile([value(tuple(tokens)) for tokens in drawn], 0.99)
    assert np.mean([value(proposal.tokens) for proposal in asked]) > ordinary


@pytest.mark.parametrize(
    "score", [lambda i: 1.0, lambda i: math.nan, lambda i: (-1) ** i * 1.7e308], ids=["equal", "none", "huge"]
)
def test_scores_that_teach_nothing_are_no_error(score: Callable[[int], float]) -> None:
    search = Bayesian(initial=4, seed=0)
    search.setup(WIDE)
    for i in range(30):
        (proposal,) = search.ask()
        search.tell(proposal.uid, score(i))
    assert search.counts.asked == 30


def test_a_space_is_searched_to_its_end() -> None:
    space = Space.from_json({f"k{i}": layer(*"abc") for i in range(4)})
    search = Bayesian(initial=5, seed=1)
    search.setup(space)
    while proposals := search.ask(3):
        for proposal in proposals:
            search.tell(proposal.uid, float(sum(proposal.tokens)))
    assert search.counts.told == 81 and search.exhausted


def test_more_results_than_the_model_takes_are_no_slower() -> None:
    """It is made of the best and the latest 300: what is asked of it does not grow."""
    value, _ = additive(1)
    search: Any = Bayesian(seed=0)
    search.setup(WIDE)
    rng = np.random.default_rng(5)
    for tokens in {tuple(row) for row in WIDE.sample_tokens(rng, 900).tolist()}:
        proposal = search.suggest(tokens)
        search.tell(proposal.uid, value(tokens))
    (data,) = search._data()
    assert len(data.values) == 300
    best = max(search.trials.values(), key=lambda trial: trial.score).tokens
    assert best in set(map(tuple, data.rows.tolist()))
    assert value(search.ask()[0].tokens) > np.median([trial.score for trial in search.trials.values()])


@pytest.mark.parametrize("initial", [1, 2.5, "many"])
def test_initial_is_a_whole_number_from_two_up(initial: Any) -> None:
    with pytest.raises(ValueError, match="initial is"):
        Bayesian(initial=initial)


def test_local_search_climbs_every_hill_to_its_top() -> None:
    """Its neighbours are all known before it begins anew, and a hill of one key at a time has one top."""
    search = LocalSearch(initial=1, seed=3)
    search.setup(WIDE)
    target = np.random.default_rng(7).integers(4, size=20)
    told = 0
    while search.best is None or search.best.score < 20:
        (proposal,) = search.ask()
        search.tell(proposal.uid, float((np.array(proposal.tokens) == target).sum()))
        told += 1
        assert told < 600
    before = search.counts.asked
    for _ in range(61):
        (proposal,) = search.ask()
        search.tell(proposal.uid, float((np.array(proposal.tokens) == target).sum()))
    apart = [(np.array(trial.tokens) != target).sum() for trial in list(search.trials.values())[before:]]
    assert max(apart[:-1]) >= 2  # a new hill has begun


def test_local_search_with_pending_trials_goes_on_climbing() -> None:
    value, _ = additive(2)
    climbed, drawn = (
        np.mean([best_of(make(seed=seed), value, 150, pending=8) for seed in range(4)])
        for make in (LocalSearch, RandomSearch)
    )
    assert climbed > drawn + 3


def test_what_auto_chooses_it_says_why() -> None:
    small = Space.from_json({"k": layer(*"abc")})
    assert choose_algorithm(small, 10) == ("random", "10 trials are enough for all 3 architectures")
    assert choose_algorithm(WIDE, 100)[0] == "bayesian"
    assert choose_algorithm(WIDE, 10**5)[0] == "evolution"
    assert [choose_algorithm(WIDE, trials, ["objectives"])[0] for trials in (100, 10**5)] == ["bayesian", "nsga2"]
    for name, algorithm in ALGORITHMS.items():
        if algorithm.own_options and name != "local":  # which has no option that no other has
            chosen, why = choose_algorithm(WIDE, 100, list(algorithm.own_options))
            assert chosen == name and all(option in why for option in algorithm.own_options)
