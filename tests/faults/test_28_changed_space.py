"""Fault 28: a change of the space says what it keeps and what it drops, where users look; nothing is lost by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas_tuners.cli import main
from nas_tuners.runs.run import Run, load
from nas_tuners.search import RandomSearch
from search_spaces import Space
from tests.spaces import layer

OLD = {"a": layer("x", "y"), "b": layer("p", "q")}


def score(choices: Any) -> float:
    return float(sum("xypqr".index(choice["_value"]) for choice in choices.values()))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.start(RandomSearch(), Space.from_json(OLD), path=tmp_path / "journal.jsonl")
    told = run.ask(3)
    for proposal in told:
        run.tell(proposal.uid, score(proposal.choices))
    run.fail(run.ask()[0].uid, "out of memory")
    return run


def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["show", str(tmp_path)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("space", "said", "dropped"),
    [
        ({**OLD, "c": layer("m", "n")}, "key 'c' was added. Of 4 trials so far 0 are part of it; 4", 4),
        ({"a": OLD["a"]}, "key 'b' was removed. Of 4 trials so far 0 are part of it; 4", 4),
        ({**OLD, "b": layer("p", "q", "r")}, "'b' has got r. Of 4 trials so far 4 are part of it.", 0),
        ({**OLD, "b": layer("q")}, "'b' has lost p. Of 4 trials so far 2 are part of it; 2", 2),
        (dict(reversed(OLD.items())), "its keys stand in another order. Of 4 trials so far 4 are part of it.", 0),
    ],
)
def test_fault_28_show_says_what_a_change_of_space_has_done(
    run: Run, tmp_path: Path, space: Any, said: str, dropped: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.change_space(Space.from_json(space)) == dropped
    text = shown(tmp_path, capsys)
    assert f"the search space has changed: {said}" in text
    assert (f"{dropped} dropped" in text) is (dropped > 0)
    assert main(["show", "--json", str(tmp_path)]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert said in summary["space_changes"][0]
    # What is left has its own result; what was dropped is in the record still, with its own choices.
    assert all(t["metrics"]["default"] == score(t["choices"]) for t in summary["trials"] if t["state"] == "told")
    assert len(summary["trials"]) == 4


def test_fault_28_what_a_space_drops_comes_back_with_the_space(run: Run, tmp_path: Path) -> None:
    before = {uid: (t.state, t.metrics, t.reason) for uid, t in run.search.trials.items()}
    best = run.search.best
    assert run.change_space(Space.from_json({**OLD, "c": layer("m", "n")})) == 4
    assert run.search.best is None
    assert run.change_space(Space.from_json(OLD)) == 0
    assert {uid: (t.state, t.metrics, t.reason) for uid, t in run.search.trials.items()} == before
    assert run.search.best == best and run.search.exhausted
    assert load(tmp_path / "journal.jsonl")[0].search.best == best


def test_fault_28_a_trial_that_was_running_does_not_come_back(run: Run) -> None:
    run = Run.start(RandomSearch(), Space.from_json(OLD))
    (proposal,) = run.ask()
    run.change_space(Space.from_json({"a": OLD["a"]}))
    run.change_space(Space.from_json(OLD))
    assert run.search.trials[proposal.uid].state == "dropped"
