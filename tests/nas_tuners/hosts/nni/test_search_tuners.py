"""Searches under NNI's tuner interface: budgets, constraints from a file, imported results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nni
import pytest

import nas_tuners
from nas_tuners import EvolutionTuner
from nas_tuners.commands.register import TUNERS
from nas_tuners.search import ConstraintError
from nas_tuners.search.algorithms import ALGORITHMS
from search_spaces import Space
from search_spaces.cost import CostTable

SPACE = {f"k{i}": {"_type": "layer_choice", "_value": ["small", "large"]} for i in range(8)}


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "costs.json"
    CostTable(Space.from_json(SPACE), {"macs": 1}, {"macs": {key: [1, 2] for key in SPACE}}).save(path)
    return str(path)


def larges(parameters: dict[str, Any]) -> int:
    return sum(parameters[key]["_idx"] for key in SPACE)


@pytest.mark.parametrize("cls", [getattr(nas_tuners, algorithm.tuner) for algorithm in ALGORITHMS.values()])
def test_limits_from_a_table_file(cls: Any, table: str) -> None:
    tuner = cls(constraints={"macs": [None, 11]}, cost_table=table)
    tuner.update_search_space(SPACE)
    for number in range(1 + 8 + 28):  # none, one or two large ones
        parameters = tuner.generate_parameters(number)
        assert larges(parameters) <= 2
        tuner.receive_trial_result(number, parameters, float(larges(parameters)))
    with pytest.raises(nni.NoMoreTrialError, match="every architecture"):
        tuner.generate_parameters(99)


def test_an_impossible_limit_ends_the_experiment(table: str) -> None:
    with pytest.raises(ConstraintError, match="nearest reachable macs is 9"):
        EvolutionTuner(constraints={"macs": 8}, cost_table=table).update_search_space(SPACE)


def test_a_spent_budget_ends_the_experiment() -> None:
    tuner = EvolutionTuner(candidate_pool_size=5, max_epoch=2, optimize_mode="minimize")
    tuner.update_search_space(SPACE)
    for number in range(10):
        tuner.generate_parameters(number)
    with pytest.raises(nni.NoMoreTrialError, match="budget"):
        tuner.generate_parameters(10)


def test_imported_results_beyond_the_limits_are_ignored(table: str) -> None:
    tuner = EvolutionTuner(constraints={"macs": 11}, cost_table=table)
    tuner.update_search_space(SPACE)
    space = Space.from_json(SPACE)
    tuner.import_data([{"parameter": space.decode(tokens), "value": 1.0} for tokens in ((1,) * 8, (0,) * 8)])
    assert [trial.tokens for trial in tuner.run.search.trials.values()] == [(0,) * 8]


def test_a_changed_space_without_its_costs_is_not_entered(table: str) -> None:
    tuner = EvolutionTuner(constraints={"macs": 11}, cost_table=table)
    tuner.update_search_space(SPACE)
    tuner.update_search_space({"k0": SPACE["k0"]})
    assert len(tuner.generate_parameters(0)) == 8 + 2


def test_score_key_under_nni() -> None:
    tuner = EvolutionTuner(score_key="acc")
    tuner.update_search_space(SPACE)
    for number, acc in enumerate((0.5, 0.7, 0.6)):
        tuner.receive_trial_result(number, tuner.generate_parameters(number), {"acc": acc, "default": -acc})
    assert tuner.run.search.best is not None and tuner.run.search.best.score == 0.7


@pytest.mark.slow
def test_tuners_are_registered_and_cost_no_torch() -> None:
    assert TUNERS["NasEvolution"] == "nas_tuners.EvolutionTuner"
    code = "import sys; from nas_tuners import EvolutionTuner; EvolutionTuner(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
