"""``RaySearcher``: what it suggests, what it takes in, and what is left of it when it is gone."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import load
from nas_tuners.search import Evolution
from search_spaces import Space
from tests.nas_tuners.hosts.trials.experiments import SPACE, good

MISSING = [name for name in ("ray", "pyarrow", "tensorboardX", "pydantic") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f'missing: {MISSING}: pip install "nas-tuners[ray]"'),
    pytest.mark.filterwarnings("default"),  # Ray's imports have their own
]
ROOT = Path(__file__).parents[4]


def make_searcher(folder: Path, **arguments: Any) -> Any:
    from nas_tuners.hosts.ray import RaySearcher

    search, space = Evolution(seed=5, candidate_pool_size=4), Space.from_json(SPACE)
    return RaySearcher(search, space, folder / "journal.jsonl", "accuracy", **arguments)


def test_one_seed_gives_the_same_suggestions(tmp_path: Path) -> None:
    searcher, twin = make_searcher(tmp_path, key="net"), Evolution(seed=5, candidate_pool_size=4)
    twin.setup(Space.from_json(SPACE))
    for number in range(10):
        choices = searcher.suggest(str(number))["net"]
        (proposal,) = twin.ask()
        assert choices == {**proposal.parameters, "_uid": number, "_run": searcher.run.id}
        searcher.on_trial_complete(str(number), {"accuracy": good(choices), "loss": 1.5, "pid": 3, "config/net/x": 1})
        twin.tell(number, good(choices))
    assert searcher.run.search.trials[3].metrics.keys() == {"accuracy", "loss", "default"}


def test_failures_and_trials_that_were_stopped(tmp_path: Path) -> None:
    searcher = make_searcher(tmp_path, iterations=3)
    results: list[Any] = [{"accuracy": math.nan}, {"accuracy": None}, {"loss": 1}, {}, None, {"accuracy": "good"}]
    results += [{"accuracy": 99, "training_iteration": 2}, {"accuracy": 7, "training_iteration": 3}]
    names = [str(number) for number in range(len(results) + 1)]
    assert all(searcher.suggest(name) for name in names)  # several at once
    for name, result in zip(names, results, strict=False):
        searcher.on_trial_complete(name, result)
    searcher.on_trial_complete(names[-1], None, error=True)
    searcher.on_trial_complete("another's", {"accuracy": 1})
    trials = searcher.run.search.trials.values()
    assert [t.state for t in trials] == [*["failed"] * 6, "stopped", "told", "failed"]
    assert searcher.run.search.best.score == 7


def test_it_ends_with_the_space(tmp_path: Path) -> None:
    from nas_tuners.hosts.ray import RaySearcher

    space = Space.from_json({"k": {"_type": "layer_choice", "_value": ["a", "b"]}})
    searcher = RaySearcher(Evolution(), space, tmp_path / "journal.jsonl", "accuracy")
    assert searcher.suggest("0") and searcher.suggest("1")
    assert searcher.suggest("2") == "FINISHED"


def test_its_journal_is_its_memory(tmp_path: Path) -> None:
    """Without a checkpoint, what has no result comes first; with one, its trials may still end. Copies are light."""
    first = make_searcher(tmp_path)
    given = {name: first.suggest(name)["choices"] for name in ("a", "b", "c")}
    first.on_trial_complete("a", {"accuracy": 3})
    first.save(str(tmp_path / "checkpoint"))
    assert set(json.loads((tmp_path / "checkpoint").read_text())) == {"journal", "run", "trials"}
    first.run.close()
    other = copy.deepcopy(first)  # as ray.tune's pickles do
    other.on_trial_complete("b", {"accuracy": 5})
    assert other.suggest("d")["choices"]["_uid"] == 3
    other.run.close()
    again = make_searcher(tmp_path)
    assert again.suggest("e")["choices"] == given["c"]
    again.run.close()
    restored = make_searcher(tmp_path)
    restored.restore(str(tmp_path / "checkpoint"))
    restored.on_trial_complete("c", {"accuracy": 4})
    assert [t.score for t in load(tmp_path / "journal.jsonl")[0].search.trials.values()][:3] == [3, 5, 4]
    (tmp_path / "other").mkdir()
    with pytest.raises(JournalError, match=r"is of the journal .*, not of"):
        make_searcher(tmp_path / "other").restore(str(tmp_path / "checkpoint"))


def test_what_it_does_not_take(tmp_path: Path) -> None:
    from nas_tuners.hosts.ray import RaySearcher

    with pytest.raises(ValueError, match=r"mode.*maximize.*; iterations is 0.*"):
        make_searcher(tmp_path, mode="maximize", iterations=0)
    with pytest.raises(ValueError, match=r"give ray\.tune a scheduler"):
        RaySearcher(Evolution(early_stopping="asha"), Space.from_json(SPACE), tmp_path / "j", "accuracy")


def test_the_example(tmp_path: Path) -> None:
    """A program of ray.tune, in a process and on a cluster of its own."""
    for name in ("config.yml", "tune.py"):
        (tmp_path / name).write_text((ROOT / "examples/ray" / name).read_text())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_ADDRESS": "local"}
    command = [sys.executable, "tune.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    run, _ = load(tmp_path / "tuned/journal.jsonl")
    assert run.search.counts.told == run.search.counts.asked == 6
    assert run.search.best is not None and f"best accuracy {run.search.best.score}" in done.stdout
