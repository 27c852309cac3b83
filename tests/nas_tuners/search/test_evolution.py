"""Evolution: elitist, tie-safe, never waiting, and the same again from its seed or its journal."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_tuners.runs.run import Run, load
from nas_tuners.search import Evolution, RandomSearch, Search
from nas_tuners.search.records import MetricError
from search_spaces import Space

MODES: list[dict[str, Any]] = [{}, {"mode": "generation"}, {"regularized": True}, {"preset": "spos"}]
LAYERS = Space.from_json({f"k{i}": {"_type": "layer_choice", "_value": list("abcd")} for i in range(10)})
MIXED = Space.from_json(
    {
        "op": {"_type": "layer_choice", "_value": ["conv", "pool", "skip"]},
        "inputs": {"_type": "input_choice", "_value": {"candidates": ["x", "y", "z"], "n_chosen": None}},
        "pair": {"_type": "input_choice", "_value": {"candidates": ["x", "y", "z"], "n_chosen": 2}},
        "rate": {"_type": "choice", "_value": [0.1, 0.01]},
        "depth": {"_type": "randint", "_value": [1, 4]},
        "drop": {"_type": "quniform", "_value": [0, 0.4, 0.2]},
        "only": {"_type": "layer_choice", "_value": ["conv"]},
    }
)


def small(**more: Any) -> Evolution:
    return Evolution(**({"candidate_pool_size": 6, "candidate_top_k": 2, "mutate_prob": 0} | more))


def play(search: Search | Run, trials: int, batch: int = 1) -> list[tuple[int, ...]]:
    """Ask and tell; the score is the sum of the tokens."""
    asked = []
    for _ in range(trials // batch):
        for proposal in search.ask(batch):
            asked.append(proposal.tokens)
            search.tell(proposal.uid, float(sum(proposal.tokens)))
    return asked


def distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def test_presets_give_way_to_arguments() -> None:
    spos = Evolution(preset="spos", candidate_top_k=7)
    assert (spos.candidate_pool_size, spos.candidate_top_k, spos.num_mutation, spos.num_crossover) == (50, 7, 25, 25)
    assert (spos.mutate_prob, spos.max_epoch, spos.budget) == (0.1, 20, 1000)
    assert Evolution().budget is None


def test_children_fill_the_pool_unless_their_numbers_are_given() -> None:
    def kinds(**given: int) -> tuple[int, int]:
        search = Evolution(candidate_pool_size=9, **given)
        return search.num_mutation, search.num_crossover

    assert kinds() == (5, 4)
    assert kinds(num_mutation=7) == (7, 2)
    assert kinds(num_crossover=0) == (9, 0)
    assert kinds(num_mutation=3, num_crossover=3) == (3, 3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"candidate_pool_size": 0}, "candidate_pool_size is 0"),
        ({"candidate_top_k": 1.5}, "candidate_top_k is 1.5"),
        ({"num_mutation": -1}, "num_mutation is -1"),
        ({"mutate_prob": 2}, "mutate_prob is 2"),
        ({"max_epoch": 0}, "max_epoch is 0"),
        ({"mode": "fast"}, "mode is 'fast'"),
        ({"regularized": "yes"}, "regularized is 'yes'"),
        ({"regularized": True, "mode": "generation"}, "has no generations"),
        ({"preset": "sops"}, "preset is 'sops'"),
        ({"num_mutation": 30, "num_crossover": 30, "candidate_pool_size": 50}, "30 + num_crossover 30 is more"),
        ({"seed": -1}, "seed is -1"),
        ({"score_key": ""}, "score_key is ''"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("+", r"\+")):
        Evolution(**wrong)


@pytest.mark.parametrize("how", MODES)
def test_a_small_mixed_space_is_exhausted(how: dict[str, Any]) -> None:
    search = Evolution(**how)
    search.setup(MIXED)
    asked = play(search, 2000)
    assert len(asked) == len(set(asked)) == min(MIXED.size, search.budget or MIXED.size)
    assert search.finished and search.ask(3) == []


@pytest.mark.parametrize("how", MODES)
def test_three_hundred_asks_before_any_tell(how: dict[str, Any]) -> None:
    search = Evolution(**how)
    search.setup(LAYERS)
    asked = [search.ask(1)[0] for _ in range(300)]
    assert len({p.tokens for p in asked}) == 300
    for proposal in asked:
        search.tell(proposal.uid, float(sum(proposal.tokens)))
    play(search, 300)
    assert search.best is not None and search.best.score >= 27


@pytest.mark.parametrize("how", MODES)
def test_no_waiting_with_stragglers(how: dict[str, Any]) -> None:
    search = Evolution(**how)
    search.setup(LAYERS)
    search.ask(3)  # these never get a result
    assert len(set(play(search, 200))) == 200


def test_mutants_differ_from_a_parent_in_one_key() -> None:
    search = small(num_crossover=0)
    search.setup(LAYERS)
    play(search, 6)
    for _ in range(50):
        ranked = sorted((t for t in search.trials.values()), key=lambda t: (-t.score, t.resolved))[:2]
        (child,) = play(search, 1)
        assert 1 in [distance(child, parent.tokens) for parent in ranked]


def test_crossovers_take_each_key_from_a_parent() -> None:
    search = small(num_mutation=0)
    search.setup(LAYERS)
    play(search, 6)
    parents = sorted(search.trials.values(), key=lambda t: (-t.score, t.resolved))[:2]
    (child,) = play(search, 1)
    assert all(token in pair for token, *pair in zip(child, *(parent.tokens for parent in parents), strict=True))


def test_elitist_over_all_history() -> None:
    search = small(num_crossover=0, candidate_top_k=1)
    search.setup(LAYERS)
    first = [search.ask(1)[0] for _ in range(6)]
    for proposal in first:
        search.tell(proposal.uid, 1.0 if proposal.uid == 2 else 0.0)
    for _ in range(25):
        (proposal,) = search.ask(1)
        assert distance(proposal.tokens, first[2].tokens) == 1
        search.tell(proposal.uid, 0.5)


def test_equal_scores_do_not_push_each_other_out() -> None:
    search = small(num_crossover=0)
    search.setup(LAYERS)
    first = search.ask(6)
    for proposal in first:
        search.tell(proposal.uid, 0.7)
    children = [search.ask(1)[0].tokens for _ in range(30)]
    near = [{i for i in range(6) if distance(child, first[i].tokens) == 1} for child in children]
    assert set.union(*near) == {0, 1}  # the two that came first, and both of them


def test_aging_forgets_the_oldest() -> None:
    search = small(num_crossover=0, regularized=True)
    search.setup(LAYERS)
    first = search.ask(6)
    for proposal in first:
        search.tell(proposal.uid, 9.0)
    for proposal in search.ask(6):
        search.tell(proposal.uid, 0.0)
    living = [trial.tokens for trial in list(search.trials.values())[6:]]
    assert all(1 in [distance(p.tokens, one) for one in living] for p in search.ask(40))


def test_a_generation_has_its_parents_kinds_and_number() -> None:
    search = small(mode="generation", num_mutation=3, num_crossover=2)
    search.setup(LAYERS)
    first = search.ask(6)
    for proposal in first:
        search.tell(proposal.uid, float(-proposal.uid))
    parents = [p.tokens for p in first[:2]]
    for number in range(6):
        (child,) = search.ask(1)
        if number < 3:
            assert 1 in [distance(child.tokens, parent) for parent in parents]
        elif number < 5:
            assert all(token in pair for token, *pair in zip(child.tokens, *parents, strict=True))
        search.tell(child.uid, 100.0 + number)  # better than the parents, and yet not one of them before the end
    (child,) = search.ask(1)
    assert 1 in [distance(child.tokens, search.trials[uid].tokens) for uid in (10, 11)]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("how", MODES)
def test_failures_never_win(how: dict[str, Any], bad: float | None) -> None:
    search = Evolution(**how)
    search.setup(LAYERS, "minimize")
    for _ in range(120):
        (proposal,) = search.ask(1)
        if proposal.tokens[0]:
            search.tell(proposal.uid, float(sum(proposal.tokens)))
        elif bad is None:
            search.fail(proposal.uid, "broke")
        else:
            search.tell(proposal.uid, bad)
    assert search.best is not None and search.best.tokens[0]
    assert all(entry[2][0] for entry in [*search._elite, *search._population])


def test_all_failures_is_random_search() -> None:
    search = small()
    search.setup(LAYERS)
    for _ in range(100):
        search.fail(search.ask(1)[0].uid)
    assert search.best is None and len({t.tokens for t in search.trials.values()}) == 100


def test_score_key_says_which_metric_counts(tmp_path: Path) -> None:
    run = Run.start(RandomSearch(score_key="acc"), LAYERS, path=tmp_path / "journal.jsonl")
    a, b, c, d = run.ask(4)
    run.tell(a.uid, {"acc": 0.5, "default": 9})
    run.tell(b.uid, {"acc": 0.6, "loss": 3})
    run.tell(c.uid, 0.55)
    with pytest.raises(MetricError, match="'acc'"):
        run.tell(d.uid, {"default": 1.0})
    run.tell(d.uid, {"acc": math.nan})
    best = run.search.best
    assert best is not None and (best.uid, best.score) == (b.uid, 0.6)
    assert best.metrics == {"acc": 0.6, "loss": 3, "default": 0.6}
    run.close()
    read = load(tmp_path / "journal.jsonl")[0].search
    assert read.best == best and read.counts == run.search.counts


def test_the_budget_ends_the_search() -> None:
    search = small(max_epoch=3)
    search.setup(LAYERS)
    assert len(play(search, 10)) == 10 and not search.finished
    assert len(search.ask(100)) == 8 and search.finished and not search.exhausted
    assert search.ask(1) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", MODES)
@pytest.mark.parametrize("batch", [1, 7])
def test_same_seed_same_run_and_resumed_as_unbroken(how: dict[str, Any], batch: int, tmp_path: Path) -> None:
    unbroken = Evolution(seed=5, **how)
    unbroken.setup(LAYERS)
    wanted = play(unbroken, 280, batch)
    np.random.seed(1)  # noqa: NPY002  the global generator is nobody's business
    first = Run.start(Evolution(seed=5, **how), LAYERS, path=tmp_path / "journal.jsonl")
    begun = play(first, 140, batch)
    first.close()
    resumed = Run.resume(Evolution(seed=5, **how), tmp_path / "journal.jsonl")
    assert begun + play(resumed, 140, batch) == wanted
    resumed.close()
    other = Evolution(seed=6, **how)
    other.setup(LAYERS)
    assert play(other, 280, batch) != wanted


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODES), st.integers(0, 2**32), st.lists(st.integers(0, 30), max_size=12), st.data())
def test_any_order_of_events(how: dict[str, Any], seed: int, batches: list[int], data: st.DataObject) -> None:
    search = Evolution(seed=seed, **how)
    search.setup(MIXED)
    for n in batches:
        search.ask(n)
        for proposal in search.pending:
            event = data.draw(st.sampled_from(["tell", "fail", "skip", "wait"]))
            if event == "tell":
                search.tell(proposal.uid, data.draw(st.sampled_from([0.0, 1.0, math.nan])))
            elif event != "wait":
                search.fail(proposal.uid, learn=event == "fail")
    assert len({t.tokens for t in search.trials.values()}) == search.counts.asked
    assert search.counts.asked == min(sum(batches), MIXED.size)


def test_finds_the_best_far_sooner_than_chance() -> None:
    results = {}
    for cls in (RandomSearch, Evolution):
        best = []
        for seed in range(5):
            search = cls(seed=seed)
            search.setup(LAYERS)
            play(search, 150)
            assert search.best is not None
            best.append(search.best.score)
        results[cls] = np.mean(best)
    assert results[Evolution] >= 29 > 26 >= results[RandomSearch]


def test_every_key_and_value_is_reached_by_mutation() -> None:
    search = small(num_crossover=0, candidate_top_k=1)
    search.setup(LAYERS)
    for proposal in search.ask(6):
        search.tell(proposal.uid, -proposal.uid)
    centre = search.trials[0].tokens
    reached = {p.tokens for _ in range(300) for p in search.ask(1)} | {t.tokens for t in search.trials.values()}
    ring = {(*centre[:k], v, *centre[k + 1 :]) for k, v in itertools.product(range(10), range(4))}
    assert ring <= reached
