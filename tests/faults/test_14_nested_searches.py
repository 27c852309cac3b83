"""Once (fault 14): of 85 proposals 39 were different networks, and a limit ruled out legal ones."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nni
import numpy as np
import pytest

import nas_tuners
from nas_tuners.runs.run import Run
from nas_tuners.search import ConstraintError, Search
from nas_tuners.search.algorithms import ALGORITHMS
from nas_tuners.search.feasible.constraints import Feasible, rules_of
from nas_tuners.search.feasible.splitting import Splitting
from nas_tuners.search.feasible.trellis import Trellis, steps_of
from nas_tuners.show.plotdata import count_shares
from nas_tuners.show.text import describe_choices
from search_spaces import Space, Tokens
from search_spaces.cost import CostTable
from search_spaces.cost.limits import Limit
from tests.nas_tuners.search.test_conformance import SEARCHES
from tests.spaces import layer, stage

FOUR = stage(3, "a", "b", "c", "d")
NATURAL = {
    key: entry
    for i in range(3)
    for key, entry in (
        (f"{i}", layer("block", "skip")),
        (f"{i}.block.kernel", layer("3", "5", "7", when={f"{i}": ["block"]})),
    )
}


class Naive(Search):
    """A search of a user's: it knows nothing of conditions."""

    def _propose(self, n: int) -> Iterable[Sequence[int]]:
        return self.rng.integers(0, self.space.radices, size=(n, len(self.space)))

    def _learn(self, tokens: Tokens, score: float) -> None:
        assert self.space.canonical(tokens) == tokens


@pytest.mark.parametrize("obj", [FOUR, NATURAL], ids=["85", "64"])
@pytest.mark.parametrize("name", [*SEARCHES, "naive"])
def test_as_many_proposals_as_networks_are_all_of_them(name: str, obj: dict[str, Any]) -> None:
    space, search = Space.from_json(obj), (Naive if name == "naive" else SEARCHES[name])()
    search.setup(space)
    networks = set()
    for _ in range(space.size):
        (proposal,) = search.ask()
        assert space.canonical(proposal.tokens) == proposal.tokens
        networks.add(str(proposal.choices))
        search.tell(proposal.uid, float(sum(proposal.tokens)))
    assert len(networks) == space.size
    assert search.exhausted and search.ask() == []


@pytest.mark.parametrize("name", ALGORITHMS)
def test_it_goes_on_after_a_kill_as_the_unbroken_one(name: str, tmp_path: Path) -> None:
    space, unbroken = Space.from_json(FOUR), Run.start(ALGORITHMS[name].search(seed=1), Space.from_json(FOUR))
    broken = Run.start(ALGORITHMS[name].search(seed=1), space, path=tmp_path / "journal.jsonl")
    for step in range(60):
        for run in (unbroken, broken):
            (proposal,) = run.ask()
            run.tell(proposal.uid, float(sum(proposal.tokens)))
        if step in (0, 20, 40):
            broken.close()
            broken = Run.resume(ALGORITHMS[name].search(seed=1), tmp_path / "journal.jsonl")
    assert broken.search.trials == unbroken.search.trials


def test_what_a_user_suggests_is_known_in_every_spelling() -> None:
    search = ALGORITHMS["random"].search()
    search.setup(Space.from_json(FOUR))
    assert search.suggest((1, 2, 3, 1)).tokens == (1, 2, 0, 0)
    assert search.known((1, 2, 0, 2))
    with pytest.raises(ValueError, match="proposed before"):
        search.suggest((1, 2, 1, 1))


def test_a_mutation_always_changes_the_network_and_reaches_every_inner_option() -> None:
    space, rng = Space.from_json(NATURAL), np.random.default_rng(0)
    skips = (1, 0, 1, 0, 1, 0)
    near = {space.neighbour(skips, rng) for _ in range(200)}
    assert near == {tuple(np.array(skips) + change) for change in _opened()}
    assert {tuple(row) for row in space.neighbours(skips, rng, 200).tolist()} == near


def _opened() -> list[tuple[int, ...]]:
    """One of three skips becomes a block, with any of three kernels."""
    changes = []
    for at, kernel in itertools.product((0, 2, 4), range(3)):
        change = [0] * 6
        change[at], change[at + 1] = -1, kernel
        changes.append(tuple(change))
    return changes


def costs_of(space: Space, seed: int = 0) -> CostTable:
    rng = np.random.default_rng(seed)
    options = {k: rng.integers(1, 100, r).tolist() for k, r in zip(space.keys, space.radices, strict=True)}
    return CostTable(space, {"macs": 7}, {"macs": options})


def total(table: CostTable, tokens: Sequence[int]) -> float:
    """What an architecture costs, by hand: options that matter, and the fixed part."""
    by_key = dict(zip(table.space.keys, tokens, strict=True))
    return 7 + sum(table.options["macs"][key][by_key[key]] for key in table.space.active_keys(by_key))


def test_an_option_costs_something_only_where_it_matters() -> None:
    table = costs_of(Space.from_json(NATURAL))
    rows = np.array(list(itertools.product(*map(range, table.space.radices))))
    assert table.costs("macs", rows).tolist() == [total(table, row) for row in rows.tolist()]
    assert table.cost("macs", (1, 2, 1, 0, 1, 0)) == table.cost("macs", (1, 0, 1, 0, 1, 0))
    every = table.costs("macs", table.space.every())
    bounds = table.bounds("macs")
    assert (bounds.low, bounds.high, bounds.exact) == (every.min(), every.max(), True)
    joint = CostTable(
        table.space, {"macs": 0}, {}, joint={"macs": [(("0.block.kernel", "1.block.kernel"), np.ones((3, 3)))]}
    )
    assert joint.cost("macs", (0, 1, 0, 2, 0, 0)) == 1 and joint.cost("macs", (0, 1, 1, 2, 0, 0)) == 0


@pytest.mark.parametrize("name", SEARCHES)
def test_under_a_limit_every_network_that_keeps_it_comes_once(name: str) -> None:
    table = costs_of(Space.from_json(FOUR))
    legal = {tuple(row) for row in table.space.every().tolist() if 60 <= total(table, row) <= 150}
    search = ALGORITHMS.get(name, ALGORITHMS["evolution"]).search(constraints={"macs": [60, 150]}, cost_table=table)
    search.setup(table.space)
    assert search.feasible_share == len(legal) / 85 and search.feasible_share_exact
    proposals = [proposal for _ in range(len(legal) + 5) for proposal in search.ask()]
    assert {proposal.tokens for proposal in proposals} == legal and len(proposals) == len(legal)


def chain(blocks: int) -> Space:
    """Blocks that may be skipped, each with a kernel and a width; the width has a unit only if it is the second."""
    made: dict[str, Any] = {}
    for i in range(blocks):
        made |= {
            f"{i}": layer("skip", "block"),
            f"{i}.kernel": layer("3", "5", "7", when={f"{i}": ["block"]}),
            f"{i}.width": layer("1", "2", when={f"{i}": ["block"]}),
            f"{i}.width.unit": layer("x", "y", when={f"{i}.width": ["2"]}),
        }
    return Space.from_json(made)


def test_draws_under_a_limit_are_direct_exact_and_uniform() -> None:
    """Through the trellis, whose steps leave out what is not canonical; by hand over all 10,000 of four blocks."""
    table = costs_of(chain(4))
    space = table.space
    highest = float(np.quantile(table.costs("macs", space.every()), 0.1))
    assert space.size == 10**4
    steps = steps_of(space.radices, table.terms("macs"), rules_of(space) or ())
    assert steps is not None
    made = Trellis(steps, Limit("macs", -7, highest - 7), True, space.size)
    legal = {tuple(row) for row in space.every().tolist() if total(table, row) <= highest}
    assert made.exact and made.count == len(legal) and made.share == pytest.approx(len(legal) / space.size)
    assert {tuple(row) for row in made.every().tolist()} == legal
    rows, counts = np.unique(made.draw(np.random.default_rng(0), 60 * len(legal)), axis=0, return_counts=True)
    assert {tuple(row) for row in rows.tolist()} == legal
    assert ((counts - 60) ** 2 / 60).sum() < len(legal) + 4 * (2 * len(legal)) ** 0.5  # chi-squared


def test_a_large_conditional_space_under_a_tight_limit() -> None:
    table = costs_of(chain(40))
    assert table.space.size == 10**40
    bounds = table.bounds("macs")
    limit = bounds.low + 0.15 * (bounds.high - bounds.low)
    feasible = Feasible(table.space, table, [Limit("macs", high=limit)])
    assert feasible.exact and 0 < feasible.share < 1e-6
    rows = feasible.sample(np.random.default_rng(0), 200)
    assert (table.space.canonical(rows) == rows).all() and (table.costs("macs", rows) <= limit).all()
    assert [total(table, row) for row in rows[:20].tolist()] == table.costs("macs", rows[:20]).tolist()
    with pytest.raises(ConstraintError, match="nearest reachable macs is"):
        Feasible(table.space, table, [Limit("macs", high=bounds.low - 1)])


def test_splitting_is_uniform_over_networks_not_encodings() -> None:
    """Most encodings are of the few networks that skip much, most networks skip little."""
    space = chain(4)
    table = costs_of(space)
    found = Splitting(space, lambda rows: np.maximum(table.costs("macs", rows) - 400, 0))
    rows = found.draw(np.random.default_rng(0), 4000)
    legal = np.array([row for row in space.every().tolist() if total(table, row) <= 400])
    assert (space.canonical(rows) == rows).all()
    assert found.share == pytest.approx(len(legal) / space.size, rel=0.15)
    skipped = (rows[:, ::4] == 0).sum(axis=1).mean(), (legal[:, ::4] == 0).sum(axis=1).mean()
    assert skipped[0] == pytest.approx(skipped[1], abs=0.08)


def test_a_table_of_other_conditions_is_another() -> None:
    free = Space.from_json({key: layer(*entry["_value"]) for key, entry in FOUR.items()})
    assert free.size == 4**4 and free != Space.from_json(FOUR)
    with pytest.raises(ValueError, match=r"key 'block0' matters under other conditions \(_when\)"):
        costs_of(free).arranged(Space.from_json(FOUR))


def test_a_table_that_does_not_match_is_not_used_for_limits() -> None:
    """Once, one that was off by 502 % ruled out half of the legal networks."""
    table = costs_of(Space.from_json(FOUR))
    table.about["check"] = {"max_relative_error": {"macs": 5.02}, "exact": {"macs": False}}
    with pytest.raises(ConstraintError, match=r"macs are off by up to 502 %"):
        ALGORITHMS["random"].search(constraints={"macs": 100}, cost_table=table)


def test_pictures_and_lists_show_what_matters() -> None:
    run = Run.start(ALGORITHMS["random"].search(), Space.from_json(FOUR))
    for _ in range(85):
        (proposal,) = run.ask()
        run.tell(proposal.uid, 1.0)
    trials = list(run.search.trials.values())
    shallow = next(trial for trial in trials if trial.tokens == (0, 0, 0, 0))
    assert describe_choices(shallow) == "length=0"
    shares = {share.key: share for share in count_shares(run.space, trials)}
    deep = [trial.tokens[3] for trial in trials[:21] if trial.tokens[0] == 3]
    assert shares["block2"].table[0][0] == pytest.approx(deep.count(0) / len(deep))


def test_results_of_the_space_before_conditions_are_kept() -> None:
    """An old journal goes on with the file that ss-gen writes now."""
    old = Space.from_json({key: layer(*entry["_value"]) for key, entry in NATURAL.items()})
    run = Run.start(ALGORITHMS["random"].search(), old)
    for tokens, score in (((1, 2, 1, 1, 0, 2), 1.0), ((1, 0, 1, 0, 0, 2), 2.0), ((0, 1, 1, 0, 0, 2), 3.0)):
        run.tell(run.suggest(tokens).uid, score)
    run.change_space(Space.from_json(NATURAL))
    told = {trial.tokens: trial.score for trial in run.search.trials.values() if trial.state == "told"}
    assert told == {(1, 0, 1, 0, 0, 2): 1.0, (0, 1, 1, 0, 0, 2): 3.0}
    assert run.search.counts.dropped == 1


@pytest.mark.parametrize("name", ALGORITHMS)
def test_under_nni_85_trials_are_85_networks(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed half-way, as well; and a result that comes with all keys, as before, is that of its network."""
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path))
    make = getattr(nas_tuners, ALGORITHMS[name].tuner)
    tuner, seen = make(), set()
    tuner.update_search_space(FOUR)
    for number in range(85):
        parameters = tuner.generate_parameters(number)
        uid = parameters.pop("_uid")
        del parameters["_run"]
        seen.add(str(parameters))
        assert len(parameters) == 1 + parameters["length"]["_idx"]
        every = {key: {"_value": "a", "_idx": 0} for key in FOUR} | parameters
        tuner.receive_trial_result(number, {**every, "_uid": uid}, {"default": 1.0, "_uid": uid})
        if number == 40:
            tuner.run.close()
            tuner = make()
            tuner.update_search_space(FOUR)
            tuner.load_checkpoint()
    with pytest.raises(nni.NoMoreTrialError, match="every architecture"):
        tuner.generate_parameters(99)
    assert len(seen) == tuner.run.search.counts.told == 85


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_copy_goes_on_as_its_original(name: str) -> None:
    search = ALGORITHMS[name].search(seed=2)
    search.setup(Space.from_json(NATURAL))
    for proposal in search.ask(20):
        search.tell(proposal.uid, float(sum(proposal.tokens)))
    copied = pickle.loads(pickle.dumps(search))  # noqa: S301 - our own
    assert [p.tokens for p in copied.ask(20)] == [p.tokens for p in search.ask(20)]
