"""Shrinking: phases that end after so many results, whatever their order; scores that wait; and the search after it."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_tuners import ProgressiveShrinkingTuner
from nas_tuners.runs.journal import Journal, JournalError, read
from nas_tuners.runs.run import Run, load
from nas_tuners.search import Annealing, Evolution, RandomSearch, SearchError, Shrinking
from nas_tuners.search.records import InPhase
from nas_tuners.show.plots import plot
from nas_tuners.show.text import describe_best, describe_run, summarize
from search_spaces import Space
from search_spaces.cost import CostTable
from search_spaces.phases import PhaseError
from tests.nas_tuners.hosts.nni.test_tuners import resumed, started
from tests.nas_tuners.nas import Nas
from tests.spaces import SPACES, layer

FILE = {
    "a.kernel_size": layer("3", "5", "7"),
    "a.expand_ratio": layer("6", "3", "4"),
    "a.depth": layer("2", "4", "3"),
    "op": layer("conv", "skip"),
}
SPACE = Space.from_json(FILE)
BUDGETS = [[3], [2, 2], [1, 2]]  # of 5 phases: kernel_size; width; depth
NAMES = ["kernel_size 0", "width 0", "width 1", "depth 0", "depth 1", "search"]
SHRINKING = 10  # results until the search begins


def ready(**arguments: Any) -> Shrinking:
    search = Shrinking(**{"phase_budgets": BUDGETS, "seed": 3, **arguments})
    search.setup(SPACE)
    return search


def score(tokens: tuple[int, ...]) -> float:
    return float(sum((i + 1) * token for i, token in enumerate(tokens)))


def drive(search: Shrinking, trials: int) -> list[InPhase]:
    """Ask and tell in turn. Returns: the phase of each."""
    phases = []
    for _ in range(trials):
        (proposal,) = search.ask()
        search.tell(proposal.uid, score(proposal.tokens))
        assert proposal.phase is not None
        phases.append(proposal.phase)
    return phases


def test_phase_by_phase_and_then_the_search() -> None:
    phases = drive(search := ready(), SHRINKING + 5)
    assert [phase.name for phase in phases] == [
        *[NAMES[0]] * 3,
        *[NAMES[1]] * 2,
        *[NAMES[2]] * 2,
        NAMES[3],
        *[NAMES[4]] * 2,
        *["search"] * 5,
    ]
    assert {(phase.name, phase.index) for phase in phases} == {(name, i) for i, name in enumerate(NAMES)}
    assert {phase.of for phase in phases} == {6}
    for trial in search.trials.values():
        assert trial.phase is not None
        assert trial.phase.last or search.schedule.region(trial.phase.index).holds(trial.tokens)


def test_a_trial_gets_choices_and_its_phase() -> None:
    (proposal,) = ready().ask()
    assert proposal.parameters == {**proposal.choices, "_phase": {"index": 0, "of": 6, "name": "kernel_size 0"}}
    assert SPACE.encode(proposal.parameters) == proposal.tokens


def test_within_a_phase_a_network_comes_again_and_in_the_search_never() -> None:
    search = ready(phase_budgets=[[30], [1, 1], [1, 1]])
    drive(search, 34 + 54)
    trials = list(search.trials.values())
    assert len({trial.tokens for trial in trials[:30]}) == 4 == search.schedule.region(0).size
    assert len({trial.tokens for trial in trials[34:]}) == 54 == SPACE.size  # also those that phases had drawn
    assert search.exhausted
    assert search.finished
    assert search.ask() == []


def test_scores_from_before_the_search_never_win_and_never_teach() -> None:
    search = ready()
    learnt: list[float] = []
    search.inner._learn = lambda tokens, score: learnt.append(score)  # type: ignore[method-assign]
    early = [search.ask()[0] for _ in range(3)]
    for proposal in early[:2]:
        search.tell(proposal.uid, 1000.0)
    drive(search, SHRINKING - 2)
    assert (search.best, learnt) == (None, [])
    (first,) = search.ask()
    search.tell(first.uid, -5.0)
    search.tell(early[2].uid, 9999.0)  # late
    assert search.best is not None
    assert (search.best.uid, search.best.score, learnt) == (first.uid, -5.0, [-5.0])


@settings(max_examples=40)
@given(st.data())
def test_a_budget_counts_its_own_results_whatever_their_order(data: st.DataObject) -> None:
    """Up to eight in flight; results in any order, twice, late, failed, failed and then told, or never."""
    search, ended = ready(), Counter[str]()
    settled: set[int] = set()
    before = 0
    for _ in range(60):
        if data.draw(st.booleans()) and len(search.pending) < 8:
            (proposal,) = search.ask()
            assert proposal.phase is not None
            expected = next(
                (i for i, phase in enumerate(search.schedule.phases) if ended[phase.name] < (phase.budget or 0)), 5
            )
            assert proposal.phase.index == expected >= before
            before = expected
            assert proposal.phase.last or search.schedule.region(expected).holds(proposal.tokens)
        elif search.trials:
            uid = data.draw(st.sampled_from(sorted(search.trials)))
            trial = search.trials[uid]
            assert trial.phase is not None
            if uid not in settled:
                ended[trial.phase.name] += 1
                settled.add(uid)
            how = data.draw(st.sampled_from(["tell", "nan", "fail", "skip"]))
            if how in ("tell", "nan"):
                search.tell(uid, score(trial.tokens) if how == "tell" else math.nan)
            else:
                search.fail(uid, "crashed", learn=how == "fail")


@pytest.mark.parametrize("outcome", ["fail", "skip", "nan"])
def test_a_phase_whose_trials_all_fail_ends_too(outcome: str) -> None:
    search = ready(inner_arguments={"mode": "generation", "candidate_pool_size": 4})
    for _ in range(SHRINKING + 9):
        (proposal,) = search.ask()
        if outcome == "nan":
            search.tell(proposal.uid, math.nan)
        else:
            search.fail(proposal.uid, "crashed", learn=outcome == "fail")
    assert search.trials[SHRINKING].phase == InPhase(5, 6, "search")
    assert search.inner.counts.failed == 9
    (proposal,) = search.ask()
    search.tell(proposal.uid, 1.0)
    search.tell(SHRINKING, 2.0)  # a failure that came to life
    assert search.best is not None
    assert (search.best.uid, search.inner.counts.told) == (SHRINKING, 2)


def test_asks_before_any_result_stay_in_the_first_phase_and_a_batch_too() -> None:
    search = ready()
    asked = [*search.ask(40), *(search.ask()[0] for _ in range(40))]
    assert {proposal.phase for proposal in asked} == {InPhase(0, 6, "kernel_size 0")}
    for proposal in reversed(asked):
        search.tell(proposal.uid, 1.0)
    assert search.ask()[0].phase == InPhase(1, 6, "width 0")  # no phase is skipped


@pytest.mark.parametrize(
    ("inner", "arguments", "cls"),
    [
        ("evolution", {"candidate_pool_size": 6, "candidate_top_k": 2}, Evolution),
        ("annealing", {"init_temperature": 2.0}, Annealing),
        ("random", {}, RandomSearch),
    ],
)
def test_after_the_phases_it_is_the_inner_search(inner: str, arguments: dict[str, Any], cls: Any) -> None:
    search, alone = ready(inner=inner, inner_arguments=arguments), cls(**arguments, seed=3)
    alone.setup(SPACE)
    drive(search, SHRINKING + 30)
    for _ in range(30):
        (proposal,) = alone.ask()
        alone.tell(proposal.uid, score(proposal.tokens))
    assert [t.tokens for t in list(search.trials.values())[SHRINKING:]] == [t.tokens for t in alone.trials.values()]


def test_the_budget_of_the_inner_search_ends_it() -> None:
    search = ready(inner_arguments={"candidate_pool_size": 4, "max_epoch": 2})
    drive(search, SHRINKING + 8)
    assert search.finished
    assert not search.exhausted
    assert search.ask(3) == []


def test_to_minimize_the_inner_search_minimizes() -> None:
    search = Shrinking(phase_budgets=1, inner="evolution", seed=1)
    search.setup(SPACE, "minimize")
    drive(search, 6 + 48)
    assert search.best is not None
    assert search.best.score == 0.0


def costs() -> CostTable:
    return CostTable(SPACE, {"macs": 0}, {"macs": {key: [1, 2, 3][: len(FILE[key]["_value"])] for key in FILE}})


def test_constraints_are_for_the_search_alone() -> None:
    search = ready(constraints={"macs": 5}, cost_table=costs())
    drive(search, SHRINKING)
    assert any(not search.feasible(trial.tokens) for trial in search.trials.values())
    while proposals := search.ask():
        assert search.feasible(proposals[0].tokens)
        search.tell(proposals[0].uid, 1.0)
    assert search.counts.asked == SHRINKING + 5  # 1 of cost 4, 4 of cost 5
    assert search.feasible_share == pytest.approx(5 / 54)


def test_a_result_from_elsewhere_counts_as_one_of_the_search() -> None:
    search = ready()
    search.tell(search.suggest((0, 0, 0, 0)).uid, 7.0)
    assert search.best is not None
    assert search.best.score == 7.0
    with pytest.raises(ValueError, match="were proposed before"):
        search.suggest((0, 0, 0, 0))
    drive(search, SHRINKING + 53)
    assert search.ask() == []
    assert [t.tokens for t in list(search.trials.values())[-53:]].count((0, 0, 0, 0)) == 0


PHASES = [
    {"name": "big", "open": {"*": 1, "op": "all"}, "budget": 2},
    {"name": "all", "open": {"*": "all"}, "budget": 1},
]


def test_phases_as_data() -> None:
    with pytest.raises(PhaseError, match="'op': its options are no numbers"):
        Shrinking(phases=PHASES).setup(Space.from_json({"op": layer("x", "y"), "depth": layer("1", "2")}))
    phases = [{"name": "big", "open": {"a.*": 1}, "budget": 2}, {"name": "all", "open": {"a.*": "all"}, "budget": 1}]
    search = Shrinking(phases=phases)
    search.setup(SPACE)
    assert [phase.name for phase in drive(search, 5)] == ["big", "big", "all", "search", "search"]
    assert search.trials[0].tokens[:3] == search.trials[1].tokens[:3] == (2, 0, 1)
    again = search.fresh()
    again.setup(SPACE)
    assert again.schedule.phases == search.schedule.phases


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"inner": "grid"},
            "inner is 'grid', wanted one of 'annealing', 'bayesian', 'evolution', 'local', 'nsga2', 'random'",
        ),
        ({"inner": ["random"]}, "inner is"),
        ({"inner_arguments": {"pool": 3}}, "inner_arguments do not fit: Evolution: got an unexpected keyword"),
        ({"inner_arguments": {"mutate_prob": 3}}, "inner_arguments do not fit: Evolution: mutate_prob is 3"),
        ({"inner_arguments": {"seed": 3}}, "inner_arguments has seed: give that to the shrinking itself"),
        ({"inner_arguments": 3}, "inner_arguments is 3, wanted an object"),
        ({"elastic_order": ["kernel"]}, "task 'kernel' is unknown"),
        ({"elastic_order": "depth"}, "got 'depth', wanted a list of tasks"),
        ({"phases": [{"name": "a"}]}, "open is None"),
        ({"phases": [{"name": "a", "open": {"depth": 2}}]}, "phase 'a' has no budget: it would never end"),
        ({"phases": [{"name": "search", "open": {}, "budget": 1}]}, "'search' is the name of the last phase"),
        ({"phases": [], "phase_budgets": 3}, "stand instead of"),
        ({"phase_budgets": 0}, "phase_budgets is 0, wanted a whole number from 1 up"),
        ({"phase_budgets": "x"}, "phase_budgets is 'x', wanted"),
        ({"phase_budgets": [[3], [0, 1]]}, "phase_budgets is .* wanted"),
        ({"phase_budgets": [3, 2]}, "phase_budgets is .* wanted"),
        ({"seed": -1}, "seed is -1"),
    ],
)
@pytest.mark.parametrize("make", [Shrinking, ProgressiveShrinkingTuner])
def test_bad_arguments_are_refused_at_once(make: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"phase_budgets": [[3]]}, "budgets is .* wanted 3 lists"),
        ({"elastic_order": ["channel"]}, "task 'channel' has no key in this space"),
        ({"phases": [{"name": "a", "open": {"stage9.*": 2}, "budget": 1}]}, "'stage9.*' fits no key"),
    ],
)
def test_phases_that_do_not_fit_the_space_are_refused_with_it(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(PhaseError, match=said):
        Shrinking(**arguments).setup(SPACE)


def test_before_the_set_up_there_is_nothing_to_ask() -> None:
    with pytest.raises(RuntimeError, match="call setup"):
        Shrinking().ask()


def test_where_nothing_is_elastic_it_says_so(caplog: pytest.LogCaptureFixture) -> None:
    search = Shrinking()
    search.setup(Space.from_json(SPACES["20 x 4"]))
    assert "nothing to shrink" in caplog.text
    assert search.ask()[0].phase is None


# --- the journal


TRIALS = 10
LAST = InPhase(4, 5, "search")


def shrinking() -> Shrinking:
    return Shrinking(phase_budgets=[[2], [1, 1], [1]], seed=7)


def begin(path: Path | None) -> Run:
    return Run.start(shrinking(), SPACE, path=path)


def work(run: Run) -> None:
    """Two in flight, some results late, some failures, until so many trials have ended."""
    while (ended := run.search.counts.told + run.search.counts.failed) < TRIALS:
        pending = run.search.pending
        if len(pending) < 2:
            run.ask()
        elif ended % 5 == 3:
            run.fail(pending[ended % 2].uid, "crashed")
        else:
            run.tell(pending[ended % 2].uid, score(pending[ended % 2].tokens))


class DiesAfter(Journal):
    """Is killed with SIGKILL right after its n-th event."""

    n = 0

    def append(self, event: dict[str, Any]) -> None:
        super().append(event)
        DiesAfter.n -= 1
        if DiesAfter.n == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_killed_at_every_single_event_and_resumed_equals_unbroken(tmp_path: Path) -> None:
    unbroken = begin(None)
    work(unbroken)
    for event in range(1, 2 * TRIALS):
        path = tmp_path / f"{event}.jsonl"
        pid = os.fork()
        if pid == 0:  # the child never returns
            try:
                run = begin(path)
                DiesAfter.n = event
                assert run._journal is not None
                run._journal.__class__ = DiesAfter
                work(run)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        run = Run.resume(shrinking(), path)
        work(run)
        assert run.search.trials == unbroken.search.trials
        assert run.search.best == unbroken.search.best
        run.close()


def test_the_journal_knows_the_phase_and_needs_no_algorithm_to_be_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    run = begin(path)
    work(run)
    run.close()
    asks = [event for event in read(path)[0] if event["event"] == "ask"]
    indices = [event["phase"]["index"] for event in asks]
    assert indices == sorted(indices)
    assert set(indices) == set(range(5))
    shown, _ = load(path)
    assert shown.search.trials == run.search.trials
    assert shown.search.best == run.search.best
    assert shown.phase == LAST


def test_a_journal_of_other_phases_goes_on_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal.jsonl"
    run = begin(path)
    work(run)
    run.close()
    other = Run.resume(Shrinking(phase_budgets=9, seed=7), path)
    assert "proposes something else than its journal says" in caplog.text
    assert other.search.best == run.search.best


def test_a_damaged_phase_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    run = begin(path)
    run.ask()
    run.close()
    unsealed = re.sub(', "crc32": "[0-9a-f]{8}"', "", path.read_text())
    path.write_text(unsealed.replace('"index": 0', '"number": 0'))
    with pytest.raises(JournalError, match="line 2 does not fit"):
        load(path)


def test_in_another_space_what_was_done_stays_done() -> None:
    run = begin(None)
    work(run)
    before = {uid: trial.phase for uid, trial in run.search.trials.items()}
    wider = Space.from_json({**FILE, "op": layer("conv", "skip", "pool")})
    assert run.change_space(wider) == 0
    assert {uid: trial.phase for uid, trial in run.search.trials.items()} == before
    assert run.ask()[0].phase == LAST
    assert run.search.best is not None


# --- the tuner, and what a person sees


def test_the_tuner_hands_out_the_phase_and_goes_on_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path / "checkpoint"))

    def make() -> ProgressiveShrinkingTuner:
        return ProgressiveShrinkingTuner(phase_budgets=2, inner="annealing", inner_arguments={"init_temperature": 1.0})

    tuner, names = started(make(), FILE), []
    for number in range(14):
        parameters = tuner.generate_parameters(number)
        names.append(parameters["_phase"]["name"])
        tuner.receive_trial_result(number, parameters, score(SPACE.encode(parameters)), trial_job_id=f"j{number}")
        if number == 5:
            tuner._on_exit()
            tuner = resumed(make, FILE)
    expected = ["kernel_size 0", "kernel_size 1", "width 0", "width 1", "depth 0", "depth 1"]
    assert names == [*(name for name in expected for _ in "12"), "search", "search"]


def test_what_is_tried_again_keeps_its_phase() -> None:
    tuner = started(ProgressiveShrinkingTuner(phase_budgets=1, on_failure="retry", retries=1), FILE)
    first = tuner.generate_parameters(0)
    tuner.receive_trial_result(0, first, {"default": math.nan, "_failed": "oom", **{"_uid": 0}}, trial_job_id="j")
    assert tuner.generate_parameters(1) == first


def test_phases_that_do_not_fit_leave_the_old_space_in_force(caplog: pytest.LogCaptureFixture) -> None:
    tuner = started(ProgressiveShrinkingTuner(elastic_order=["depth"]), FILE)
    tuner.update_search_space({"op": layer("x", "y")})
    assert "the search goes on in the old space" in caplog.text
    assert "task 'depth' has no key in this space" in caplog.text


def test_show_and_plot_tell_the_phase(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    run = begin(path)
    for i in range(2):
        run.tell(run.ask()[0].uid, float(i))
    run.ask()
    early, header = load(path)
    text = describe_run(early, header)
    assert "phase 2/5, width 0: 0 told, 0 failed, 1 pending; then evolution" in text
    assert text.endswith("no result yet")
    assert describe_best(early) == "phase 2/5, width 0  no result yet  pending 1"
    assert summarize(early, header)["phase"] == {"index": 1, "of": 5, "name": "width 0"}
    assert summarize(early, header)["trials"][0]["phase"]["name"] == "kernel_size 0"
    assert plot(early, header, tmp_path / "early.svg").stat().st_size > 0
    work(run)
    run.close()
    late, header = load(path)
    assert "phase 5/5, search by evolution: " in describe_run(late, header)
    assert "still in" not in plot(late, header, tmp_path / "late.svg").read_text()


def test_the_command_line_searches_by_phases(tmp_path: Path, nas: Nas) -> None:
    (tmp_path / "space.json").write_text(json.dumps(FILE))
    (tmp_path / "own.py").write_text(
        "def evaluate(choices):\n    return choices['op']['_idx'] + (choices['_phase']['name'] != 'search') * 100\n"
    )
    words = ["search", "space.json", "--evaluate", "own:evaluate", "--algorithm", "shrinking", "--set"]
    said = nas(*words, "phase_budgets=1", "--trials", "5", "-o", "short", cwd=tmp_path, code=1)
    assert "still in phase 5/7, depth 0: scores count from the last phase on" in said
    said = nas(*words, "phase_budgets=1", "--set", "inner=random", "--trials", "20", "-o", "long", cwd=tmp_path)
    assert "best 1 " in said
    said = nas("export", "short", "-o", "best", cwd=tmp_path, code=1)
    assert "nothing to export: still in phase 5/7, depth 0" in said


def test_a_broken_inner_search_is_an_error_with_its_name() -> None:
    search = ready()
    drive(search, SHRINKING)
    search.inner._propose = lambda n: [(9, 9, 9, 9)]  # type: ignore[method-assign]
    with pytest.raises(SearchError, match=r"Evolution\._propose"):
        search.ask()
