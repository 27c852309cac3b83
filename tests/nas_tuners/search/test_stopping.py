"""Early stopping: the rules by numbers worked out by hand, and every search with them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mutators import report_intermediate
from nas_tuners import Run, run_search
from nas_tuners.runs.journal import read
from nas_tuners.runs.run import load
from nas_tuners.search import NSGA2, Bayesian, Evolution, RandomSearch, Search, Shrinking
from nas_tuners.search.algorithms import ALGORITHMS
from nas_tuners.search.stopping import Asha, Curves, Median, read_rule
from search_spaces import Space
from tests.nas_tuners.nas import Nas
from tests.spaces import SPACES

WIDE = Space.from_json(SPACES["20 x 4"])
EPOCHS = 4


def ready(rule: Any = "asha", mode: str = "maximize") -> RandomSearch:
    search = RandomSearch(early_stopping=rule)
    search.setup(WIDE, mode)
    return search


def drive(search: Search | Run, trials: int) -> None:
    """Each trial rises by a quarter of its score an epoch, if it may."""
    for _ in range(trials):
        for proposal in search.ask():
            final = score(proposal.tokens)
            for epoch in range(1, EPOCHS + 1):
                if epoch == EPOCHS:
                    search.tell(proposal.uid, final)
                elif not search.report(proposal.uid, final * epoch / EPOCHS, epoch):
                    break


def score(tokens: tuple[int, ...]) -> float:
    return float(sum((i + 1) * token for i, token in enumerate(tokens)) % 101)


def test_asha_lets_a_third_go_on_from_each_rung() -> None:
    search, went_on = ready(), []
    for proposal, value in zip(search.ask(7), (5, 4, 6, 3, 9, 6, 5.5), strict=True):
        went_on.append(search.report(proposal.uid, value, 1))
    # of n results so far, this one among them, the best ceil(n / 3) go on; equals do
    assert went_on == [True, False, True, False, True, True, False]
    assert search.report(0, -99, 2)  # no rung
    assert search.report(2, 1, 3) and not search.report(0, 0, 3) and search.report(4, 1, 3)
    assert search.counts.stopped == 4 and search.trials[0].resource == 3
    assert search.trials[0].metrics == {"default": 0.0}


def test_asha_decides_at_the_first_result_after_a_rung() -> None:
    rule, curves = Asha(min_resource=2, reduction_factor=2), Curves()
    assert not rule.stops(curves, 0, 1, (0.0,))
    for uid, value in enumerate((3.0, 2.0, 1.0)):
        curves.add(uid, 3, (value,))
    assert rule.stops(curves, 3, 2, (1.5,)) and not rule.stops(curves, 3, 2, (2.5,))
    curves.add(3, 2, (2.5,))
    assert not rule.stops(curves, 3, 3, (0.0,))  # it has passed the rung at 2, that at 4 is ahead
    assert not rule.stops(curves, 3, 9, (0.0,))  # the first at the rung at 8
    curves.add(0, 8, (7.0,))
    assert rule.stops(curves, 3, 9, (0.0,))


def test_the_median_rule_compares_the_best_with_what_whole_trials_had_reached() -> None:
    rule, curves = Median(startup=3), Curves()
    for uid, values in enumerate(((1.0, 3.0), (2.0, 2.0), (3.0, 5.0), (9.0, 9.0))):
        for resource, value in enumerate(values, 1):
            curves.add(uid, resource, (value,))
    curves.whole |= {0, 1, 2}  # the fourth still runs, or was stopped
    assert rule.stops(curves, 4, 2, (2.9,)) and not rule.stops(curves, 4, 2, (3.0,))
    assert rule.stops(curves, 4, 9, (2.9,))  # they ended before: their last counts
    curves.add(4, 1, (3.5,))
    assert not rule.stops(curves, 4, 2, (0.0,))  # its best is 3.5
    assert not Median(startup=4).stops(curves, 5, 2, (0.0,))
    assert not Median(min_resource=3, startup=3).stops(curves, 5, 2, (0.0,))


def test_of_several_objectives_the_fronts_decide() -> None:
    search = NSGA2({"accuracy": "maximize", "macs": "minimize"}, score_key="accuracy", early_stopping="asha")
    search.setup(WIDE)
    proposals = search.ask(5)
    points = [(0.9, 9), (0.8, 8), (0.5, 1), (0.4, 2), (0.85, 9.5)]
    went_on = [
        search.report(proposal.uid, {"accuracy": accuracy, "macs": macs}, 1)
        for proposal, (accuracy, macs) in zip(proposals, points, strict=True)
    ]
    # 0.8 and 8 is on the front of two, of which one goes on: the ends are as far apart, and the first was there before
    assert went_on == [True, True, True, False, False]


def test_of_several_objectives_that_are_not_reported_on_the_way_the_score_decides() -> None:
    search = NSGA2({"default": "maximize", "latency_ms": "minimize"}, early_stopping="asha")
    search.setup(WIDE)
    assert [search.report(p.uid, v, 1) for p, v in zip(search.ask(3), (3, 1, 2), strict=True)] == [True, False, False]


def test_what_is_minimized_stops_where_it_is_high() -> None:
    search = ready(mode="minimize")
    assert [search.report(p.uid, v, 1) for p, v in zip(search.ask(3), (2, 3, 1), strict=True)] == [True, False, True]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_result_that_is_no_number_is_the_worst_and_fails_where_it_stops(value: float) -> None:
    search = ready()
    first, second = search.ask(2)
    assert search.report(first.uid, 0.0, 1) and not search.report(second.uid, value, 1)
    assert search.trials[second.uid].state == "failed"


def test_a_trial_that_is_over_says_whether_it_was_stopped() -> None:
    search = ready()
    first, second = search.ask(2)
    search.tell(first.uid, 1.0)
    assert search.report(first.uid, 0.0, 4)
    search.report(second.uid, 0.5, 1)
    assert search.trials[second.uid].state == "pending"  # the first of its rung
    with pytest.raises(ValueError, match="uid 9 was never proposed here"):
        search.report(9, 0.0, 1)
    with pytest.raises(ValueError, match="resource is 0, wanted a whole number from 1 up"):
        search.report(second.uid, 0.0, 0)
    search.tell(second.uid, 0.1, resource=3)
    assert not search.report(second.uid, 9.0, 4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ashes", "early_stopping is 'ashes', wanted one of 'asha', 'median', 'none'; did you mean 'asha'"),
        ({"rule": "asha", "eta": 3}, "the name in early_stopping asha is 'eta', wanted .*reduction_factor"),
        ({"rule": "asha", "reduction_factor": 1}, "'reduction_factor'. is 1, wanted a whole number from 2 up"),
        ({"rule": "median", "startup": 2.5}, "'startup'. is 2.5, wanted a whole number from 1 up"),
        (3, "early_stopping is 3"),
        (None, "early_stopping is None"),
        ([], "early_stopping is"),
    ],
)
def test_what_is_no_rule_is_an_error(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RandomSearch(early_stopping=given)


def test_rules_have_names_and_numbers() -> None:
    assert read_rule("none") is None and read_rule("asha") == Asha(1, 3) == read_rule({"rule": "asha"})
    assert read_rule({"rule": "median", "startup": 2}) == Median(1, 2)


def test_a_stopped_trial_is_expected_to_gain_what_others_gained() -> None:
    curves = Curves()
    for uid, value in enumerate((1.0, 2.0, 3.0)):
        curves.add(uid, 1, (value,))
    assert curves.expect(0.5, 1, {}) == 0.5
    assert curves.expect(0.5, 1, {0: 3.0, 1: 5.0, 2: 9.0}) == 3.5  # they gained 2, 3 and 6
    assert curves.expect(0.5, 2, {0: 3.0}) == 0.5  # nobody is known to have come as far


@pytest.mark.parametrize(
    ("rule", "mode"), [("asha", "maximize"), ({"rule": "median", "startup": 2}, "minimize")], ids=["asha", "median"]
)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "evolution" else pytest.mark.slow) for name in ALGORITHMS]
)
def test_every_search_stops_and_goes_on_after_a_kill_as_it_would_have(
    name: str, mode: str, rule: Any, tmp_path: Path
) -> None:
    def make() -> Search:
        more = {"phase_budgets": 2} if name == "shrinking" else {}
        return ALGORITHMS[name].search(seed=3, early_stopping=rule, **more)

    run = Run.start(make(), WIDE, mode, tmp_path / "journal.jsonl")
    drive(run, 30)
    run.close()
    counts, best = run.search.counts, run.search.best
    assert counts.stopped >= 8 and counts.told + counts.stopped == 30 and best is not None
    assert all(trial.resource in (1, 2, 3) for trial in run.search.trials.values() if trial.state == "stopped")
    told = [trial.score for trial in run.search.trials.values() if trial.state == "told"]
    assert best.score == (max(told) if mode == "maximize" else -max(told))

    shown, _ = load(tmp_path / "journal.jsonl")
    assert shown.search.trials == run.search.trials
    lines = (tmp_path / "journal.jsonl").read_text().splitlines(keepends=True)
    for cut in (10, 32):
        (tmp_path / f"{cut}").mkdir()
        part = tmp_path / f"{cut}" / "journal.jsonl"
        part.write_text("".join(lines[:cut]))
        again = Run.resume(make(), part)
        for event in [e for e in read(tmp_path / "journal.jsonl")[0][cut:] if e["event"] != "note"]:
            if event["event"] == "ask":
                assert [list(p.tokens) for p in again.ask(len(event["tokens"]))] == event["tokens"]
            elif event["event"] == "report":
                goes_on = again.report(event["uid"], event["metrics"], event["resource"])
                assert goes_on == ("stop" not in event)
            else:
                again.tell(event["uid"], event["metrics"])
        again.close()
        assert part.read_text() == "".join(lines)


def reporting(choices: Any) -> float:
    final = score(WIDE.encode(choices))
    for epoch in range(1, EPOCHS):
        report_intermediate(final * epoch / EPOCHS)
    return final


@pytest.mark.slow
def test_a_run_that_was_killed_between_reports_goes_on_as_the_unbroken_one(tmp_path: Path) -> None:
    """The trial that was under way runs again, from its first epoch."""

    def make() -> Search:
        return Evolution(candidate_pool_size=6, candidate_top_k=3, seed=2, early_stopping="asha", noise="auto")

    whole = Run.start(make(), WIDE, path=tmp_path / "journal.jsonl")
    run_search(whole, reporting, 30)
    whole.close()
    lines = (tmp_path / "journal.jsonl").read_text().splitlines(keepends=True)
    assert whole.search.counts.stopped > 5
    for cut in np.random.default_rng(0).integers(2, len(lines), size=12).tolist():
        (part := tmp_path / f"cut.{cut}.jsonl").write_text("".join(lines[:cut]))
        run = Run.resume(make(), part)
        run_search(run, reporting, 30)
        run.close()
        assert run.search.trials == whole.search.trials and run.search.best == whole.search.best
        assert run.search.curves == whole.search.curves


def test_early_phases_train_and_nothing_of_them_is_stopped() -> None:
    search = Shrinking(phase_budgets=3, early_stopping="asha")
    search.setup(Space.from_json({"a.kernel_size": {"_type": "choice", "_value": [3, 5, 7]}}))
    for proposal in search.ask(3):
        assert proposal.phase is not None and not proposal.phase.last
        assert search.report(proposal.uid, -proposal.uid, 1)
        search.tell(proposal.uid, 1.0)
    assert not search.curves


def test_a_changed_space_keeps_the_curves_of_what_fits(tmp_path: Path) -> None:
    run = Run.start(RandomSearch(early_stopping="asha"), WIDE, path=tmp_path / "journal.jsonl")
    drive(run, 10)
    curves = dict(run.search.curves)
    run.change_space(Space.from_json(dict(reversed(WIDE.to_json().items()))))
    assert curves and run.search.curves == curves
    run.close()


def test_a_model_learns_from_stopped_trials_at_their_resource() -> None:
    """The first key decides, and is only ever seen in trials that were stopped."""
    space = Space.from_json({f"k{i}": {"_type": "layer_choice", "_value": list("abc")} for i in range(6)})
    search = Bayesian(initial=8, early_stopping="asha")
    search.setup(space)
    for proposal in search.ask(8):
        good = proposal.tokens[0] == 0
        search.report(proposal.uid, 0.5, 1, stop=False)
        if proposal.uid < 2:
            search.tell(proposal.uid, 0.9)
        else:
            search.tell(proposal.uid, 0.6 if good else 0.1, resource=1)
    assert {search.trials[uid].tokens[0] for uid in range(8)} == {0, 1, 2}
    assert [p.tokens[0] for p in search.ask(4)].count(0) >= 3


FUNCTION = """
from mutators import report_intermediate

def score(choices):
    final = sum((i + 1) * choice["_idx"] for i, choice in enumerate(choices.values())) % 101
    try:
        for epoch in range(1, 4):
            report_intermediate(final * epoch / 4)
    except Exception:
        raise AssertionError("a stop passes") from None
    finally:
        with open("cleaned", "a") as file:
            file.write("x")
    return final
"""


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_functions_that_nas_search_calls_are_stopped(workers: int, nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(json.dumps(WIDE.to_json()))
    (tmp_path / "own.py").write_text(FUNCTION)
    words = f"search space.json --evaluate own:score --early-stopping asha --trials 12 --workers {workers} -o run"
    said = nas(*words.split(), *("--algorithm", "evolution"), cwd=tmp_path)
    run, header = load(tmp_path / "run" / "journal.jsonl")
    counts = run.search.counts
    assert counts.stopped >= 4 and counts.told + counts.stopped == 12 and counts.failed == 0
    assert f"best {max(t.score for t in run.search.trials.values() if t.state == 'told'):.6g}" in said
    assert (tmp_path / "cleaned").read_text() == "x" * 12
    assert header["search"]["arguments"]["early_stopping"] == "asha"
    assert f"{counts.stopped} stopped early" in nas("show", "run", cwd=tmp_path)
    nas("resume", "run", "--trials", "20", cwd=tmp_path)
    assert load(tmp_path / "run" / "journal.jsonl")[0].search.counts.ended == 20


def test_a_rule_that_does_not_exist_is_one_line(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(json.dumps(WIDE.to_json()))
    (tmp_path / "own.py").write_text(FUNCTION)
    said = nas(
        *["search", "space.json", "--evaluate", "own:score", "--early-stopping", "ash", "-o", "run"],
        cwd=tmp_path,
        code=1,
    )
    assert "wanted one of 'asha', 'median', 'none'" in said and len(said.splitlines()) <= 3
    assert not (tmp_path / "run").exists()
