"""Fault 24: whatever a trial returns or raises, it is a failed trial with a short reason, and a resume reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_tuners.runs.loop import run_search
from nas_tuners.runs.run import Run
from nas_tuners.search import RandomSearch
from nas_tuners.search.records import MetricError
from search_spaces import Space
from search_spaces.resolve import resolve
from tests.spaces import SPACES

SPACE = Space.from_json(SPACES["20 x 4"])
HERE = "tests.faults.poison"


def poisons() -> list[str]:
    from tests.faults import poison

    return sorted(name for name in vars(poison) if name.startswith(("returns_", "raises_")))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", poisons())
def test_poison_is_a_failure_with_a_short_reason(name: str, workers: int, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    run = Run.start(RandomSearch(seed=1), SPACE, path=path)
    run_search(run, f"{HERE}:{name}", 2, workers)
    run.close()
    again = Run.resume(RandomSearch(seed=1), path)
    for trial in again.search.trials.values():
        assert trial.state == "failed"
        assert trial.reason is not None
        assert 10 < len(trial.reason) < 800
        assert "\n" not in trial.reason
    assert again.search.trials == run.search.trials


@pytest.mark.parametrize("name", [name for name in poisons() if name.startswith("returns_")])
def test_poison_that_a_loop_of_ones_own_tells_is_a_metric_error(name: str, tmp_path: Path) -> None:
    run = Run.start(RandomSearch(seed=1), SPACE, path=tmp_path / "journal.jsonl")
    (proposal,) = run.ask()
    with pytest.raises(MetricError) as caught:
        run.tell(proposal.uid, resolve(f"{HERE}:{name}")({}))
    assert len(str(caught.value)) < 800
    run.fail(proposal.uid, str(caught.value))
    run.close()
    assert Run.resume(RandomSearch(seed=1), tmp_path / "journal.jsonl").search.counts.failed == 1


def test_what_is_told_is_what_a_resume_reads(tmp_path: Path) -> None:
    told: dict[Any, Any] = {
        "default": np.float32(0.5),
        "curve": (1, np.int64(2)),
        3: {"a": np.arange(2)},
        "text": "\ud800",
    }
    run = Run.start(RandomSearch(seed=1), SPACE, path=tmp_path / "journal.jsonl")
    run.tell(run.ask()[0].uid, told)
    run.close()
    again = Run.resume(RandomSearch(seed=1), tmp_path / "journal.jsonl")
    assert again.search.trials == run.search.trials
    assert again.search.trials[0].metrics == {"default": 0.5, "curve": [1, 2], "3": {"a": [0, 1]}, "text": "\ud800"}
