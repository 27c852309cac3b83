"""Fault 5: a uid counts with its run only; results from elsewhere go to the architecture that earned them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_tuners import AnnealingTuner, Run, SearchTuner
from nas_tuners.cli import main
from nas_tuners.runs.importing import import_results, read_rows
from nas_tuners.runs.run import load
from nas_tuners.search import RandomSearch
from search_spaces import Space
from search_spaces.cost import CostTable
from tests.faults.manager import fake_manager
from tests.spaces import layer

SPACE = {"a": layer("x", "y", "z"), "b": layer("p", "q"), "c": layer("m", "n", "o")}


def score(choices: Any) -> float:
    return float(sum(choice["_idx"] * 10**at for at, choice in enumerate(choices[key] for key in SPACE)))


def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, seed: int) -> SearchTuner:
    folder = tmp_path / name / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(folder))
    tuner = AnnealingTuner(seed=seed, init_temperature=1.0)
    tuner.update_search_space(SPACE)
    return tuner


def export(tuner: SearchTuner, swapped: bool = True, plain: bool = False) -> list[dict[str, Any]]:
    """Run four trials of an experiment, side by side. Returns: what ``nnictl experiment export`` writes of them."""
    sent = tuner.generate_multiple_parameters([0, 1, 2, 3])
    values = []
    for number, parameters in enumerate(sent):
        value: Any = score(parameters)
        if not plain:
            value = {"default": value, "_uid": parameters["_uid"], "_run": parameters["_run"]}
        tuner.receive_trial_result(number, parameters, value, trial_job_id=f"{tuner.run.id}-{number}")
        values.append(json.dumps(value))
    if swapped:
        values = [values[1], values[0], *values[2:]]
    jobs = [f"{tuner.run.id}-{number}" for number in range(4)]
    return [{"parameter": p, "value": v, "trialJobId": j} for p, v, j in zip(sent, values, jobs, strict=True)]


def decoded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As NNI's dispatcher hands rows to a tuner."""
    return [{**row, "value": json.loads(row["value"])} for row in rows]


def results(run: Run) -> dict[int, Any]:
    return {uid: (t.metrics or {})["default"] for uid, t in run.search.trials.items() if t.state == "told"}


def all_right(run: Run) -> bool:
    return all(results(run)[uid] == score(run.search.trials[uid].proposal.choices) for uid in results(run))


def test_fault_05_rows_of_another_experiment_are_told_to_no_uid_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = decoded(export(experiment(tmp_path, monkeypatch, "A", 1)))
    tuner = experiment(tmp_path, monkeypatch, "B", 2)
    pending = tuner.generate_multiple_parameters([0, 1, 2, 3])
    tuner.import_data(rows)
    assert all_right(tuner.run)
    for number, parameters in enumerate(pending):  # their own results come later, and count
        value = {"default": score(parameters), "_uid": parameters["_uid"], "_run": parameters["_run"]}
        tuner.receive_trial_result(number, parameters, value, trial_job_id=f"b{number}")
        assert tuner.run.search.trials[parameters["_uid"]].state == "told"
    assert all_right(tuner.run) and tuner.run.search.counts.duplicate == 0
    assert len(results(tuner.run)) >= 4


def test_fault_05_rows_of_ours_that_only_nni_has_seen_go_to_their_uid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuner = experiment(tmp_path, monkeypatch, "A", 1)
    sent = tuner.generate_multiple_parameters([0, 1])
    tuner._on_exit()
    tuner = experiment(tmp_path, monkeypatch, "A", 1)
    values = [{"default": score(p), "_uid": p["_uid"], "_run": p["_run"]} for p in sent]
    rows = [{"parameter": sent[i], "value": values[1 - i], "trialJobId": f"j{i}"} for i in (0, 1)]
    tuner.import_data(rows)
    assert results(tuner.run) == {uid: score(sent[uid]) for uid in (0, 1)}
    assert tuner.run.search.counts.asked == 2


def test_fault_05_a_plain_result_over_a_resume_goes_to_what_ran_not_to_what_nni_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuner = experiment(tmp_path, monkeypatch, "A", 1)
    sent = tuner.generate_multiple_parameters([0, 1, 2])
    tuner._on_exit()
    with fake_manager(monkeypatch) as manager:
        manager.add("j0", "SUCCEEDED", (0, sent[0]), ran=1, final=score(sent[1]))
        manager.add("j1", "SUCCEEDED", (1, sent[1]), ran=0, final=score(sent[0]))
        manager.add("j2", "SUCCEEDED", (7, sent[2]), ran=9, final=123.0)  # 9 is nowhere: nobody knows
        tuner = experiment(tmp_path, monkeypatch, "A", 1)
        finals = [score(sent[1]), score(sent[0]), 123.0]
        tuner.import_data([{"parameter": sent[i], "value": finals[i], "trialJobId": f"j{i}"} for i in range(3)])
    assert results(tuner.run) == {uid: score(sent[uid]) for uid in (0, 1)}
    assert tuner.run.search.trials[2].state == "pending"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    run = Run.start(RandomSearch(seed=5), Space.from_json(SPACE), path=tmp_path / "target" / "journal.jsonl")
    for proposal in run.ask(2):
        run.tell(proposal.uid, score(proposal.choices))
    run.ask()
    run.close()
    return tmp_path / "target"


Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def call(*words: object, code: int = 0) -> str:
        assert main([str(word) for word in words]) == code
        got = capsys.readouterr()
        return got.out + got.err

    return call


def test_fault_05_nas_import_takes_an_export_of_nni_and_pairs_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Path, said: Said
) -> None:
    rows = export(experiment(tmp_path, monkeypatch, "A", 1))
    stranger = {"parameter": {"a": {"_value": "w", "_idx": 0}, "d": 1}, "value": "0.5", "trialJobId": "s"}
    failed = {"parameter": rows[0]["parameter"], "value": '{"default": NaN, "_failed": "oom", "_uid": 0}'}
    (tmp_path / "nni.json").write_text(json.dumps([*rows, stranger, failed, "nonsense", {"value": 3}]))
    before = load(target / "journal.jsonl")[0].search
    known = sum(before.known(before.space.encode(row["parameter"])) for row in rows)
    text = said("import", tmp_path / "nni.json", "--into", target)
    assert f"number of results 8: {4 - known} told, {known} already known, 4 not taken" in text
    assert "unknown 'd'" in text
    after = load(target / "journal.jsonl")[0]
    assert all_right(after) and len(results(after)) == 2 + 4 - known
    # Once more: all is known. The search goes on from there, with its own algorithm.
    assert f"0 told, {4} already known" in said("import", tmp_path / "nni.json", "--into", target)
    again = Run.resume(RandomSearch(seed=5), target / "journal.jsonl")
    asked = len(again.search.trials)
    assert again.search.counts.told == 6 - known and len(again.ask(18)) == 18 - asked
    again.close()


def test_fault_05_nas_import_takes_a_run_by_names_not_by_numbers(tmp_path: Path, target: Path, said: Said) -> None:
    turned = {"c": SPACE["c"], "b": layer("q", "p"), "a": layer("z", "y", "x", "w")}
    other = Run.start(RandomSearch(seed=1), Space.from_json(turned), path=tmp_path / "other" / "journal.jsonl")
    names = {}
    for proposal in other.ask(12):
        choices = {key: choice["_value"] for key, choice in proposal.choices.items()}
        names[tuple(choices[key] for key in SPACE)] = float(proposal.uid)
        if proposal.uid == 11:
            other.fail(proposal.uid, "oom")
        else:
            other.tell(proposal.uid, float(proposal.uid), resource=3 if proposal.uid == 10 else None)
    other.close()
    text = said("import", tmp_path / "other", "--into", target)
    assert "number of results 11" in text and "not taken" in text
    run, _ = load(target / "journal.jsonl")
    imported = [trial for trial in run.search.trials.values() if trial.uid > 2]
    assert imported
    for trial in imported:
        key = tuple(choice["_value"] for choice in trial.proposal.choices.values())
        assert (trial.metrics or {})["default"] == names[key]
        assert (trial.state, trial.resource) == (("stopped", 3) if names[key] == 10 else ("told", None))


def test_fault_05_nas_import_keeps_the_limits_and_the_direction_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    space = Space.from_json(SPACE)
    costs = {key: [float(i) for i, _ in enumerate(entry["_value"])] for key, entry in SPACE.items()}
    CostTable(space, {"macs": 0.0}, {"macs": costs}).save(tmp_path / "costs.json")
    search = RandomSearch(constraints={"macs": 2}, cost_table=tmp_path / "costs.json")
    Run.start(search, space, path=tmp_path / "limited" / "journal.jsonl").close()
    other = Run.start(RandomSearch(), space, path=tmp_path / "other" / "journal.jsonl")
    for proposal in other.ask(18):
        other.tell(proposal.uid, score(proposal.choices))
    other.close()
    assert "macs<=2" in said("import", tmp_path / "other", "--into", tmp_path / "limited").replace(" ", "")
    run, _ = load(tmp_path / "limited" / "journal.jsonl")
    assert results(run) and all(sum(t.tokens) <= 2 for t in run.search.trials.values())
    Run.start(RandomSearch(), space, "minimize", tmp_path / "down" / "journal.jsonl").close()
    before = (tmp_path / "down" / "journal.jsonl").read_bytes()
    assert "maximize" in said("import", tmp_path / "other", "--into", tmp_path / "down", code=1)
    assert "same run" in said("import", tmp_path / "down", "--into", tmp_path / "down", code=1)
    assert "nothing is not a file or folder" in said("import", "nothing", "--into", tmp_path / "down", code=1)
    assert (tmp_path / "down" / "journal.jsonl").read_bytes() == before


def test_fault_05_results_that_do_not_say_whose_they_are_are_taken_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Path, said: Said
) -> None:
    rows = export(experiment(tmp_path, monkeypatch, "A", 1), swapped=False, plain=True)
    (tmp_path / "nni.json").write_text(json.dumps(rows))
    text = said("import", tmp_path / "nni.json", "--into", target)
    assert "4 of the results do not say which trial they are of" in text
    assert all_right(load(target / "journal.jsonl")[0])


def test_fault_05_two_runs_have_two_ids_and_a_resume_keeps_it(target: Path, tmp_path: Path) -> None:
    other = Run.start(RandomSearch(seed=5), Space.from_json(SPACE), path=tmp_path / "other" / "journal.jsonl")
    first, second = (load(p / "journal.jsonl")[0].id for p in (target, tmp_path / "other"))
    assert first != second == other.id
    assert Run.resume(RandomSearch(seed=5), target / "journal.jsonl").id == first


NAMES = ["parameter", "value", "a", "b", "c", "_uid", "_run", "_value", "_idx", "default", "_failed", "_stopped"]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["x", "p", "_uid", '{"default": 3}'])
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(JSON, max_size=4))
def test_fault_05_rows_of_any_kind_are_taken_or_refused(rows: list[Any]) -> None:
    run = Run.start(RandomSearch(), Space.from_json(SPACE))
    done = import_results(run, read_rows(rows))
    assert done.told + done.known + len(done.refused) == len(rows)
    assert run.search.counts.told + run.search.counts.stopped == done.told and run.search.counts.pending == 0
    assert str(done).startswith(f"{done.told} told")
