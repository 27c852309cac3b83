"""What single algorithms do, against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from nas_tuners.search import Annealing, RandomSearch, Search, SearchError
from search_spaces import Space, SpaceError, Tokens
from tests.spaces import SPACES, layer

WIDE = Space.from_json(SPACES["20 x 4"])
SMALL = Space.from_json({"a": layer("0", "1", "2"), "b": layer("0", "1", "2")})


def test_random_search_is_uniform_over_the_space() -> None:
    counts = dict.fromkeys(range(9), 0)
    for seed in range(900):
        search = RandomSearch(seed)
        search.setup(SMALL)
        (first,) = search.ask()
        counts[3 * first.tokens[0] + first.tokens[1]] += 1
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 26.1  # chi-square, 8 degrees, p = 0.001


def test_random_search_is_uniform_to_the_last_architecture() -> None:
    counts = dict.fromkeys(range(9), 0)
    for seed in range(900):
        search = RandomSearch(seed)
        search.setup(SMALL)
        last = search.ask(9)[-1]
        counts[3 * last.tokens[0] + last.tokens[1]] += 1
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 26.1


def test_the_temperature_falls_by_the_rate_with_every_result() -> None:
    search = Annealing(init_temperature=2.0, reduce_rate=0.5)
    search.setup(WIDE)
    for told in range(6):
        assert search.temperature == 2.0 * 0.5**told
        (proposal,) = search.ask()
        search.tell(proposal.uid, 1.0)


@pytest.mark.parametrize(("init", "temperature"), [(None, 10.0), (WIDE.decode((0,) * 20), 1.0)])
def test_the_temperatures_that_sanas_documents(init: Any, temperature: float) -> None:
    assert Annealing(None, init_choices=init).temperature == temperature
    assert Annealing().reduce_rate == 0.85


def test_the_first_choices_are_evaluated_first_and_then_left_by_one_key_at_a_time() -> None:
    search = Annealing(init_choices=WIDE.decode((1,) * 20))
    search.setup(WIDE)
    first, *others = search.ask(30)
    assert first.tokens == (1,) * 20
    assert all(distance(other.tokens, first.tokens) == 1 for other in others)


def test_first_choices_of_another_space_are_refused() -> None:
    with pytest.raises(SpaceError, match="missing 'k0'"):
        Annealing(init_choices={"a": {"_idx": 0}}).setup(WIDE)


def test_a_better_result_is_always_the_new_incumbent_and_proposals_are_its_neighbours() -> None:
    search = Annealing(init_temperature=1e-12, seed=4)
    search.setup(WIDE)
    best: Tokens | None = None
    for value in range(200):
        (proposal,) = search.ask()
        if best is not None:
            assert distance(proposal.tokens, best) == 1
        search.tell(proposal.uid, float(value))
        best = proposal.tokens


def test_a_worse_result_is_taken_with_the_metropolis_probability() -> None:
    """Drop 1 at temperature 2: exp(-1/2) = 0.607. Equal results are always taken."""
    taken, equal = 0, 0
    for seed in range(2000):
        search = Annealing(init_temperature=2.0, reduce_rate=1.0, init_choices=SMALL.decode((0, 0)), seed=seed)
        search.setup(SMALL)
        first, second = search.ask(2)
        search.tell(first.uid, 5.0)
        search.tell(second.uid, 4.0 if seed % 2 else 5.0)
        assert search._incumbent is not None
        moved = search._incumbent[0] == second.tokens
        taken, equal = taken + (moved and seed % 2), equal + (moved and not seed % 2)
    assert equal == 1000
    assert abs(taken / 1000 - math.exp(-0.5)) < 4 * math.sqrt(0.607 * 0.393 / 1000)


def test_where_every_neighbour_is_known_it_looks_further_afield() -> None:
    search = Annealing(init_temperature=1e-9, init_choices=WIDE.decode((0,) * 20), seed=3)
    search.setup(WIDE)
    (first,) = search.ask()
    search.tell(first.uid, 100.0)
    distances = []
    for _ in range(400):
        (proposal,) = search.ask()
        distances.append(distance(proposal.tokens, first.tokens))
        search.tell(proposal.uid, 0.0)
    assert distances[:60] == [1] * 60  # 20 keys with three other options each
    assert min(distances[60:]) > 1
    assert set(distances[60:200]) == {2}


def distance(a: Sequence[int], b: Sequence[int]) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"init_temperature": 0}, "init_temperature is 0, wanted a number above 0"),
        ({"init_temperature": "hot"}, "init_temperature is 'hot'"),
        ({"init_temperature": float("nan")}, "init_temperature is nan"),
        ({"reduce_rate": 0}, "reduce_rate is 0, wanted a number above 0 and at most 1"),
        ({"reduce_rate": 1.1}, "reduce_rate is 1.1"),
    ],
)
def test_bad_numbers_are_refused_at_once(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Annealing(**arguments)


def test_a_misspelt_argument_is_named_with_those_there_are() -> None:
    with pytest.raises(TypeError, match=r"Annealing: .*'temperature'.* It takes .*init_temperature"):
        Annealing(temperature=3)  # type: ignore[call-arg]


class Scripted(Search):
    """Proposes what it was given."""

    def __init__(self, rows: list[Any], seed: int = 0) -> None:
        super().__init__(seed)
        self.rows = rows

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        return self.rows

    def _learn(self, tokens: Tokens, score: float) -> None:
        raise KeyError("a bug")


@pytest.mark.parametrize("row", [(0,), (0, 3), (0, -1), (0, 0, 0)])
def test_an_algorithm_that_leaves_the_space_is_named(row: tuple[int, ...]) -> None:
    search = Scripted([row])
    search.setup(SMALL)
    with pytest.raises(SearchError, match=r"Scripted\._propose gave"):
        search.ask()


def test_an_algorithm_that_only_repeats_itself_is_helped_out() -> None:
    search = Scripted([(0, 0), np.array([0, 0])])
    search.setup(SMALL)
    assert len({proposal.tokens for _ in range(9) for proposal in search.ask()}) == 9
    assert search.exhausted


def test_an_algorithm_that_fails_to_learn_is_named_and_the_result_is_kept() -> None:
    search = Scripted([])
    search.setup(SMALL)
    (proposal,) = search.ask()
    with pytest.raises(SearchError, match=r"Scripted._learn.* failed: KeyError\('a bug'\)"):
        search.tell(proposal.uid, 1.0)
    assert search.best is not None
    assert search.best.score == 1.0


def test_suggestions_are_admitted_once() -> None:
    search = RandomSearch()
    search.setup(SMALL)
    assert search.suggest((1, 1)).uid == 0
    with pytest.raises(ValueError, match="were proposed before"):
        search.suggest((1, 1))
    with pytest.raises(SpaceError, match="out of range"):
        search.suggest((1, 3))
    assert len(search.ask(20)) == 8
