"""Fault 9: a trial that was stopped early is neither a result nor a failure, and is not run once more."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nas_tuners import AnnealingTuner, EvolutionTuner, Run, SearchTuner
from nas_tuners.cli import main
from nas_tuners.runs.journal import read
from nas_tuners.runs.run import load
from nas_tuners.search import Annealing, Evolution, RandomSearch, Search, Shrinking
from nas_tuners.show.plots import _title
from nas_tuners.show.text import summarize
from search_spaces import Space
from tests.faults.manager import FakeManager
from tests.mutators import trials as trial_scripts
from tests.spaces import layer

SPACE = {f"k{i}": layer("a", "b", "c") for i in range(4)}
SEARCHES = [Annealing, Evolution, RandomSearch, Shrinking]


def shown(checkpoint: Path) -> dict[str, Any]:
    return summarize(*load(checkpoint / "journal.jsonl"))


def started(tuner: SearchTuner) -> SearchTuner:
    tuner.update_search_space(SPACE)
    return tuner


@pytest.mark.parametrize("make", SEARCHES)
@pytest.mark.parametrize("mode", ["maximize", "minimize"])
def test_fault_09_a_stopped_trial_is_never_the_best_and_keeps_how_far_it_came(
    make: type[Search], mode: str, tmp_path: Path
) -> None:
    run = Run.start(make(seed=1), Space.from_json(SPACE), mode, tmp_path / "journal.jsonl")
    first, second, third = run.ask(3)
    assert run.tell(first.uid, 0.5)
    assert run.tell(second.uid, {"default": 9.0 if mode == "maximize" else -9.0, "macs": 7}, "job", resource=4)
    counts = run.search.counts
    assert (counts.told, counts.stopped, counts.pending, counts.ended) == (1, 1, 1, 2)
    assert run.search.best is not None and run.search.best.uid == first.uid
    assert [proposal.uid for proposal in run.search.pending] == [third.uid]
    run.close()
    trial = load(tmp_path / "journal.jsonl")[0].search.trials[second.uid]
    assert (trial.state, trial.resource, (trial.metrics or {})["macs"]) == ("stopped", 4, 7)
    again = Run.resume(make(seed=1), tmp_path / "journal.jsonl")
    assert again.search.trials == run.search.trials and again.search.best == run.search.best
    assert [p.tokens for p in again.ask(5)] == [p.tokens for p in _ask_on(run, 5)]


def _ask_on(run: Run, n: int) -> Any:
    return run.search.ask(n)


@pytest.mark.parametrize("value", [math.nan, math.inf, "bad"])
def test_fault_09_a_stop_without_a_number_is_a_failure(value: Any) -> None:
    tuner = started(AnnealingTuner())
    parameters = tuner.generate_parameters(0)
    tuner.receive_trial_result(0, parameters, {"default": value, "_uid": 0, "_stopped": 3}, trial_job_id="j")
    assert tuner.run.search.trials[0].state == "failed"


@pytest.mark.parametrize("make", SEARCHES)
def test_fault_09_the_result_of_the_whole_trial_replaces_a_stop_but_no_other(make: type[Search]) -> None:
    search = make()
    search.setup(Space.from_json(SPACE))
    (proposal,) = search.ask()
    search.tell(proposal.uid, 3.0, resource=1)
    assert not search.tell(proposal.uid, 4.0, resource=2)
    assert not search.fail(proposal.uid, "interrupted")
    assert search.tell(proposal.uid, 2.0)
    assert not search.tell(proposal.uid, 5.0, resource=2)
    trial = search.trials[proposal.uid]
    assert (trial.state, trial.score, trial.resource) == ("told", 2.0, None)


def test_fault_09_what_the_algorithms_learn_from_a_stop() -> None:
    class Bandit(RandomSearch):
        stops: tuple[Any, ...] = ()

        def _learn_stopped(self, tokens: tuple[int, ...], score: float, resource: int) -> None:
            self.stops = (*self.stops, (score, resource))

    bandit = Bandit()
    bandit.setup(Space.from_json(SPACE), "minimize")
    bandit.tell(bandit.ask()[0].uid, 0.25, resource=3)
    assert bandit.stops == ((-0.25, 3),)

    annealing = Annealing(init_temperature=1.0, reduce_rate=0.5)  # cools, and steps nowhere
    annealing.setup(Space.from_json(SPACE))
    first, second = annealing.ask(2)
    annealing.tell(first.uid, 1.0)
    annealing.tell(second.uid, 99.0, resource=1)
    assert annealing.temperature == 0.25
    assert all(sum(a != b for a, b in zip(p.tokens, first.tokens, strict=True)) == 1 for p in annealing.ask(4))

    evolution = Evolution(candidate_pool_size=4, candidate_top_k=1, mode="generation", num_crossover=0)
    evolution.setup(Space.from_json(SPACE))
    generation = evolution.ask(4)
    for proposal in generation[:3]:
        evolution.tell(proposal.uid, 99.0, resource=1)
    evolution.tell(generation[3].uid, 1.0)  # a generation is complete, its only parent is the one with a result
    child = evolution.ask()[0].tokens
    assert sum(a != b for a, b in zip(child, generation[3].tokens, strict=True)) <= 2  # a mutant of that one


def test_fault_09_shrinking_counts_a_stop_for_its_phase() -> None:
    space = Space.from_json({"a.kernel_size": {"_type": "choice", "_value": [3, 5, 7]}})
    search = Shrinking(phase_budgets=1)
    search.setup(space)
    phases = []
    while not search.finished:
        (proposal,) = search.ask()
        assert proposal.phase is not None
        phases.append(proposal.phase.index)
        search.tell(proposal.uid, 1.0, resource=2)
    last = max(phases)
    assert phases == [*range(last), last, last, last]  # one a phase, then the three of the space
    assert search.best is None and search.counts.stopped == len(phases)
    assert search.inner.counts.stopped == 3


OURS = "get_and_apply_next_architecture(Mnist())\n"


@pytest.mark.slow
def test_fault_09_a_trial_of_ours_that_is_interrupted_says_how_far_it_came(
    server: subprocess.Popen[str], tmp_path: Path
) -> None:
    stop = "import signal\nos.kill(os.getpid(), signal.SIGINT)"
    body = OURS + "report_intermediate(0.25)\nreport_intermediate(0.5)\n" + stop
    assert trial_scripts.run(server, tmp_path, body).finals == [{"default": 0.5, "_uid": 7, "_stopped": 2}]
    _, final = trial_scripts.run(server, tmp_path, OURS + stop).finals  # without a result on the way: a failure
    assert final["_failed"] == "interrupted"


def test_fault_09_under_nni_it_is_a_state_of_its_own(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuner = started(EvolutionTuner())
    told, stopped = tuner.generate_multiple_parameters([0, 1])
    tuner.receive_trial_result(0, told, {"default": 0.5, "_uid": told["_uid"]}, trial_job_id="j0")
    report = {"default": 0.9, "_uid": stopped["_uid"], "_stopped": 3}
    tuner.receive_trial_result(1, stopped, report, trial_job_id="j1")
    tuner.trial_end(1, False)
    tuner._on_exit()
    summary = shown(checkpoint)
    assert summary["best"]["uid"] == 0 and summary["counts"]["stopped"] == 1
    trial = summary["trials"][1]
    assert (trial["state"], trial["metrics"], trial["resource"]) == ("stopped", {"default": 0.9}, 3)
    assert main(["show", str(checkpoint)]) == 0
    text = capsys.readouterr().out
    assert "1 stopped early" in text and "0.9" not in text
    assert main(["show", "--json", str(checkpoint)]) == 0
    assert json.loads(capsys.readouterr().out)["trials"][1]["resource"] == 3


@pytest.mark.slow
def test_fault_09_pictures_show_stops_and_draw_no_best_through_them(tmp_path: Path) -> None:
    run = Run.start(RandomSearch(), Space.from_json(SPACE), path=tmp_path / "journal.jsonl")
    for proposal in run.ask(3):
        run.tell(proposal.uid, float(proposal.uid), resource=2 if proposal.uid == 2 else None)
    run.close()
    assert main(["show", str(tmp_path), "--plot", str(tmp_path / "run.svg")]) == 0
    header = read(tmp_path / "journal.jsonl")[0][0]
    assert _title(run, header) == "RandomSearch, seed 0: 2 results, 1 stopped early; best 1 (uid 1)"


def test_fault_09_plain_trials_that_an_assessor_stops_are_not_pending_and_not_run_again(
    checkpoint: Path, manager: FakeManager
) -> None:
    """NNI tells of no result, and names the wrong trial: job j1 was meant to run 1, and ran 2."""
    tuner = started(AnnealingTuner())
    sent = tuner.generate_multiple_parameters([0, 1, 2, 3])
    manager.add("j0", "RUNNING", (0, sent[0]), ran=0, between=[0.1])
    manager.add("j1", "USER_CANCELED", (1, sent[1]), ran=2, between=[0.2, 0.7])
    manager.add("j2", "RUNNING", (2, sent[2]), ran=1, between=[0.1])
    manager.add("j3", "FAILED", (3, sent[3]), ran=3, between=[0.3])
    tuner.trial_end(1, False)
    tuner.trial_end(3, False)
    states = {uid: trial.state for uid, trial in tuner.run.search.trials.items()}
    assert states == {0: "pending", 1: "pending", 2: "stopped", 3: "failed"}
    stopped = tuner.run.search.trials[2]
    assert (stopped.metrics, stopped.resource, stopped.job) == ({"default": 0.7}, 2, "j1")
    tuner._on_exit()
    again = AnnealingTuner()
    again.load_checkpoint()
    started(again)
    manager.jobs = []
    assert [again.generate_parameters(number)["_uid"] for number in range(3)] == [0, 1, 4]


def test_fault_09_the_last_intermediate_result_that_nni_passes_off_as_final_is_a_stop(
    checkpoint: Path, manager: FakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NNI_INCLUDE_INTERMEDIATE_RESULTS", "true")
    tuner = started(AnnealingTuner())
    sent = tuner.generate_multiple_parameters([0, 1, 2])
    manager.add("j0", "RUNNING", (0, sent[0]), ran=0, between=[0.1, 0.9])
    tuner.receive_trial_result(0, sent[0], 0.9, trial_job_id="j0")
    # What interrupted the trial of ours reports itself comes second.
    tuner.receive_trial_result(0, sent[0], {"default": 0.9, "_uid": 0, "_stopped": 2}, trial_job_id="j0")
    # A plain trial's own final metric is a bare number too, and NNI has kept it.
    manager.add("j1", "SUCCEEDED", (1, sent[1]), ran=1, between=[0.1], final=0.5)
    tuner.receive_trial_result(1, sent[1], 0.5, trial_job_id="j1")
    # This one was to be stopped and ended by itself at the same time.
    manager.add("j2", "SUCCEEDED", (2, sent[2]), ran=2, between=[0.8], final=0.4)
    tuner.receive_trial_result(2, sent[2], 0.8, trial_job_id="j2")
    tuner.receive_trial_result(2, sent[2], 0.4, trial_job_id="j2")
    trials = tuner.run.search.trials
    assert [trial.state for trial in trials.values()] == ["stopped", "told", "told"]
    assert [(trial.metrics or {})["default"] for trial in trials.values()] == [0.9, 0.5, 0.4]
    assert tuner.run.search.best is not None and tuner.run.search.best.uid == 1


def test_fault_09_a_job_of_before_a_resume_is_not_taken_for_one_of_now(checkpoint: Path, manager: FakeManager) -> None:
    """NNI numbers parameters anew: a trial that was stopped before the resume has the number of one that runs now."""
    old = SPACE | {}
    manager.add("j9", "USER_CANCELED", (0, old), ran=0, between=[0.9])
    tuner = started(AnnealingTuner())
    tuner.generate_parameters(0)
    tuner.trial_end(0, False)
    assert tuner.run.search.trials[0].state == "pending"
