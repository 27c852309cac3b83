"""A search that begins from earlier runs: what fits is used, what is alike helps, and what is not does no harm."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_tuners import BayesianTuner, Run, earlier_results, run_search
from nas_tuners.runs.journal import JournalError
from nas_tuners.search import Bayesian, RandomSearch
from nas_tuners.search.earlier import Earlier
from search_spaces import Space
from tests.nas_tuners.nas import Nas
from tests.spaces import SPACES, layer

WIDE = Space.from_json(SPACES["20 x 4"])
TARGET = np.random.default_rng(9).integers(4, size=20)


def right(tokens: Any, target: Any = TARGET) -> float:
    return float((np.array(tokens) == target).sum())


def earlier(target: Any, n: int = 100) -> Earlier:
    rows = list(map(tuple, WIDE.sample_tokens(np.random.default_rng(1), n).tolist()))
    return Earlier(WIDE, rows, [right(row, target) for row in rows])


def trials_to_the_best(seed: int, *given: Earlier) -> int:
    search = Bayesian(warm_start=list(given), seed=seed)
    search.setup(WIDE)
    for trials in range(1, 300):
        for proposal in search.ask():
            search.tell(proposal.uid, right(proposal.tokens))
        if search.best is not None and search.best.score == 20:
            return trials
    return 300


@pytest.mark.slow
def test_it_needs_half_the_trials_after_a_run_that_is_alike_and_not_more_after_another() -> None:
    cold, alike, unlike = (
        np.mean([trials_to_the_best(seed, *given) for seed in range(5)])
        for given in ([], [earlier(TARGET)], [earlier(np.random.default_rng(2).integers(4, size=20))])
    )
    assert alike <= cold / 2
    assert unlike <= 1.25 * cold  # of five seeds


def test_what_fits_a_changed_space_is_found_by_its_names() -> None:
    before = Space.from_json({"a": layer("x", "y", "z"), "b": layer("p", "q"), "gone": layer("1", "2")})
    now = Space.from_json({"b": layer("q", "p"), "a": layer("z", "w", "x")})
    rows, scores = Earlier(before, [(0, 0, 0), (1, 0, 0), (2, 1, 1)], [0.1, 0.2, 0.3]).translate(now)
    assert [now.decode(row) for row in rows.tolist()] == [
        {"b": {"_value": "p", "_idx": 1}, "a": {"_value": "x", "_idx": 2}},
        {"b": {"_value": "q", "_idx": 0}, "a": {"_value": "z", "_idx": 0}},
    ]
    assert scores.tolist() == [0.1, 0.3]
    rows, _ = Earlier(now, [(0, 0)], [1.0]).translate(before)
    assert rows.shape == (0, 3)  # nothing is known of the key that is new


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["runs/1"], "warm_start has 'runs/1', wanted the results of a run"),
        ([{"space": {}}], "wanted the results of a run"),
        ([earlier(TARGET).to_json() | {"scores": [1.0]}], "100 architectures and 1 scores"),
        ([earlier(TARGET, 1).to_json() | {"tokens": [[9] * 20]}], "warm_start: .*out of range"),
        ([earlier(TARGET, 1).to_json() | {"space": 5}], "warm_start: not a valid search space"),
        ([earlier(TARGET, 1).to_json() | {"optimize_mode": "rise"}], "its mode is 'rise', wanted one of 'max"),
    ],
)
def test_what_is_no_run_is_refused_at_once(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Bayesian(warm_start=given)


def test_a_run_to_minimize_a_loss_helps_to_maximize_an_accuracy() -> None:
    loss = earlier(TARGET)
    loss = Earlier(WIDE, loss.tokens, [20 - score for score in loss.scores], "minimize")
    assert loss.translate(WIDE)[1] == pytest.approx(np.array(earlier(TARGET).scores) - 20)
    assert trials_to_the_best(0, loss) == trials_to_the_best(0, earlier(TARGET))


def test_a_journal_holds_all_that_it_began_from(tmp_path: Path) -> None:
    """The earlier run may be gone when the search is resumed, and it goes on as it would have."""
    first = Run.start(RandomSearch(seed=1), WIDE, path=tmp_path / "first" / "journal.jsonl")
    run_search(first, lambda choices: right(WIDE.encode(choices)), 30)
    first.close()
    results = [earlier_results(tmp_path / "first")]
    assert len(results[0].scores) == 30
    unbroken = Run.start(Bayesian(warm_start=results, seed=2), WIDE)
    run = Run.start(Bayesian(warm_start=results, seed=2), WIDE, path=tmp_path / "journal.jsonl")
    (tmp_path / "first" / "journal.jsonl").unlink()
    for trials in (15, 25):
        run_search(run, lambda choices: right(WIDE.encode(choices)), trials)
        run.close()
        run = Run.resume(Bayesian(**run.search.arguments), tmp_path / "journal.jsonl")
    run_search(unbroken, lambda choices: right(WIDE.encode(choices)), 25)
    run.close()
    asked = [[trial.tokens for trial in one.search.trials.values()] for one in (run, unbroken)]
    assert asked[0] == asked[1]


def test_a_tuner_finds_runs_beside_its_code_and_resumes_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, logs = tmp_path / "code", tmp_path / "logs"
    first = Run.start(RandomSearch(seed=1), WIDE, path=code / "runs" / "journal.jsonl")
    run_search(first, lambda choices: right(WIDE.encode(choices)), 20)
    first.close()
    logs.mkdir()
    monkeypatch.chdir(logs)
    monkeypatch.setattr("sys.path", [*sys.path, str(code)])
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(tmp_path / "checkpoint"))
    (tmp_path / "checkpoint").mkdir()
    tuner = BayesianTuner(warm_start=["runs"], seed=3)
    tuner.update_search_space(WIDE.to_json())
    before = [tuner.generate_parameters(number) for number in range(3)]
    tuner._on_exit()
    (code / "runs" / "journal.jsonl").unlink()
    again = BayesianTuner(warm_start=["runs"], seed=3)
    again.update_search_space(WIDE.to_json())
    assert again.run.search.arguments == tuner.run.search.arguments
    assert len(again.run.search.arguments["warm_start"][0]["scores"]) == 20
    assert [WIDE.encode(sent) for sent in before] == [trial.tokens for trial in again.run.search.trials.values()]
    again._on_exit()


@pytest.mark.parametrize(("runs", "said"), [("runs", "wanted a list of runs"), (["nowhere"], "nowhere is not a file")])
def test_a_tuner_refuses_what_is_no_list_of_runs(runs: Any, said: str) -> None:
    with pytest.raises((ValueError, JournalError), match=said):
        BayesianTuner(warm_start=runs)


@pytest.mark.parametrize("name", SPACES)
def test_in_the_same_space_everything_fits(name: str) -> None:
    space = Space.from_json(SPACES[name])
    rows = sorted(set(map(tuple, space.sample_tokens(np.random.default_rng(0), 20).tolist())))
    found, scores = Earlier(space, rows, list(range(len(rows)))).translate(space)
    assert list(map(tuple, found.tolist())) == rows
    assert scores.tolist() == list(range(len(rows)))


def test_nas_check_finds_runs_beside_the_tuners_code(nas: Nas, tmp_path: Path) -> None:
    run = Run.start(RandomSearch(seed=1), WIDE, path=tmp_path / "code" / "runs" / "journal.jsonl")
    run_search(run, lambda choices: right(WIDE.encode(choices)), 5)
    run.close()
    (tmp_path / "space.json").write_text(json.dumps(WIDE.to_json()))

    def check(runs: str, code: int = 0) -> str:
        (tmp_path / "config.yml").write_text(
            "searchSpaceFile: space.json\ntrialCommand: python t.py\ntrialConcurrency: 1\nmaxTrialNumber: 20\n"
            "tuner:\n  className: nas_tuners.BayesianTuner\n  codeDirectory: code\n"
            f"  classArgs: {{warm_start: [{runs}]}}\ntrainingService:\n  platform: local\n"
        )
        return nas("check", "config.yml", cwd=tmp_path, code=code)

    assert "is fine" in check("runs")
    assert "nowhere is not a file or folder" in check("nowhere", code=1)
