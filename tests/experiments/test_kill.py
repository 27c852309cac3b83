"""SIGKILL of an experiment's processes, then ``nas resume``: nothing told is lost, nothing is counted twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.nni_experiment import Experiment, expected

pytestmark = pytest.mark.slow

SPACE = {
    **{f"k{i}": {"_type": "layer_choice", "_value": ["a", "b", "c"]} for i in range(2)},
    "k2": {"_type": "layer_choice", "_value": ["a", "b"]},
}
KILLED = ("manager", "dispatcher", "both")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Any]]]:
    """What became of an experiment for each of ``KILLED``. They mostly wait, so they run side by side."""
    with ThreadPoolExecutor(len(KILLED)) as pool:
        yield {killed: pool.submit(kill_and_resume, tmp_path_factory.mktemp(killed), killed) for killed in KILLED}


def kill_and_resume(folder: Path, killed: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Returns: what ``nas resume`` printed, and what ``nas show`` says before it and at the end."""
    with Experiment(folder / "home", space=SPACE, maxTrialNumber=100) as experiment:
        experiment.wait(lambda: experiment.told() >= 5)
        if killed in ("manager", "both"):
            experiment.kill_manager()
        if killed in ("dispatcher", "both"):
            experiment.kill_dispatcher()
        before, said = experiment.show(), experiment.resume()
        experiment.wait_until_done()
        return said, before, experiment.show()


@pytest.mark.parametrize("killed", KILLED)
def test_a_killed_experiment_goes_on_where_it_was(outcomes: dict[str, Future[Any]], killed: str) -> None:
    said, first, last = outcomes[killed].result()
    print(said)
    before, after = _results(first), _results(last)
    assert len(before) >= 5
    assert {uid: after[uid] for uid in before} == before
    # Every architecture of the space has one result, and the right one.
    assert last["counts"]["told"] == len(after) == 18
    assert last["counts"]["pending"] == last["counts"]["failed"] == 0
    assert all(trial["metrics"]["default"] == expected(trial["choices"]) for trial in last["trials"])


def _results(shown: dict[str, Any]) -> dict[int, float]:
    return {trial["uid"]: trial["metrics"]["default"] for trial in shown["trials"] if trial["state"] == "told"}
