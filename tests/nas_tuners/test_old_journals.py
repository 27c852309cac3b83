"""Journals of before the packages were split into rooms, as they were written then, are shown and gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nas_tuners import EvolutionTuner
from nas_tuners.runs.run import Run, load
from nas_tuners.sanas import SANAS
from nas_tuners.search import Annealing
from tests.nas_tuners.nas import Nas

OLD = Path(__file__).parent / "old_journals"
OWN = """
def f(choices):
    if "a.kernel_size" in choices:
        return float(choices["a.kernel_size"] + choices["b.width"])
    return float(sum(choice["_idx"] for choice in choices.values()))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for old in OLD.iterdir():
        (tmp_path / old.stem).mkdir()
        shutil.copy(old, tmp_path / old.stem / "journal.jsonl")
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


@pytest.mark.parametrize("name", [old.stem for old in OLD.iterdir()])
def test_every_journal_is_shown_and_exported(nas: Nas, folder: Path, name: str) -> None:
    before = (OLD / f"{name}.jsonl").read_text().splitlines()
    shown = json.loads(nas("show", "--json", name, cwd=folder))
    told = [json.loads(line)["metrics"]["default"] for line in before if '"event": "tell"' in line]
    assert [trial["metrics"]["default"] for trial in shown["trials"] if trial["state"] == "told"] == told
    assert shown["search"] == json.loads(before[0])["search"]["name"]
    nas("export", name, "-o", "best", cwd=folder)
    assert json.loads((folder / "best" / "choices.json").read_text()) == shown["best"]["choices"]


@pytest.mark.parametrize(("name", "trials", "said"), [("search", 6, "best 3"), ("rank", 6, "tau 1.000")])
def test_a_run_of_a_command_goes_on(nas: Nas, folder: Path, name: str, trials: int, said: str) -> None:
    before = (OLD / f"{name}.jsonl").read_text()
    assert f"nas resume {name} --trust-code" in nas("resume", name, cwd=folder, code=1)  # it has no signature
    got = nas("resume", name, "--trials", str(trials), "--trust-code", cwd=folder)
    assert said in got and "/gone/elsewhere is gone: looking for the functions in" in got
    assert (folder / name / "journal.jsonl").read_text().startswith(before)
    assert load(folder / name / "journal.jsonl")[0].search.counts.told == trials


def test_a_search_by_phases_that_is_complete_stays_so(nas: Nas, folder: Path) -> None:
    assert "best 39 (uid 3) of 7 trials" in nas("resume", "shrinking", "--trust-code", cwd=folder)
    assert (folder / "shrinking" / "journal.jsonl").read_text() == (OLD / "shrinking.jsonl").read_text()


def test_sanas_goes_on(folder: Path) -> None:
    nets = [("MobileNetV2BlockSpace", {"input_size": 32, "output_size": 16, "block_num": 1})]
    with SANAS(nets, save_checkpoint=folder / "sanas", load_checkpoint=folder / "sanas") as sanas:
        assert sanas.steps == 2
        assert sanas.current_info() == {
            "best_tokens": [5, 12, 4, 0],
            "best_reward": 1.0,
            "current_tokens": [5, 12, 4, 0],
        }
        sanas.next_archs()
        assert sanas.reward(2.0)


def test_a_tuner_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = folder / "id" / "checkpoint"
    checkpoint.mkdir(parents=True)
    shutil.copy(OLD / "experiment.jsonl", checkpoint / "journal.jsonl")
    monkeypatch.setenv("NNI_CHECKPOINT_DIRECTORY", str(checkpoint))
    space = json.loads((OLD / "experiment.jsonl").read_text().splitlines()[0])["space"]
    tuner = EvolutionTuner(seed=3)
    tuner.update_search_space(space)
    assert tuner.run.search.counts.told == 2
    assert tuner.generate_parameters(0)["_uid"] == 2
    tuner.run.close()


def test_a_run_of_a_users_own_search_goes_on(folder: Path) -> None:
    """The header names the search's module, which has moved since; nothing depends on it."""
    path = folder / "search" / "journal.jsonl"
    assert load(path)[1]["search"]["module"] == "nas_tuners.annealing"
    run = Run.resume(Annealing(), path)
    run.tell(run.ask()[0].uid, 1.0)
    run.close()
