"""Fault 18: limits below the noise of the measurement all gave the same network, and nothing said so.

Beside it: limits that are relative to the largest network, which mean the same on every machine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torch import nn

from mutators import LayerChoice
from mutators.costs import measure_latency
from mutators.costs.about import compare_latency
from nas_tuners import sanas
from nas_tuners.runs.journal import JournalError
from nas_tuners.runs.run import Run, load
from nas_tuners.search import Evolution, RandomSearch
from nas_tuners.show.plotdata import collect_costs
from search_spaces import Space
from search_spaces.cost import CostTable
from search_spaces.cost.limits import Limit, constraints_of
from search_spaces.errors import ConstraintError
from tests.nas_tuners.nas import Nas
from tests.spaces import layer

SPACE = Space.from_json({key: layer("1", "3", "5") for key in ("a", "b", "c")})
MS = {key: [0.0, 1.0, 4.0] for key in SPACE.keys}
CHEAPEST, DEAREST, SPREAD = 2.0, 14.0, 1.5


def table(spread: object = SPREAD) -> CostTable:
    """Measured networks of 2 to 14 ms, and ten times as many macs, which are counted."""
    about = {"latency_ms": {"held_out": {"spread_ms": spread}}}
    macs = {key: [int(10 * ms) for ms in row] for key, row in MS.items()}
    return CostTable(SPACE, {"latency_ms": CHEAPEST, "macs": 20}, {"latency_ms": MS, "macs": macs}, about)


def search(limit: Any, spread: object = SPREAD) -> RandomSearch:
    made = RandomSearch(constraints={"latency_ms": limit}, cost_table=table(spread))
    made.setup(SPACE)
    return made


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (2.0, "the cheapest network has 2, so wanted at least 3.5"),
        (3.4, "the cheapest network has 2, so wanted at least 3.5"),
        ("0.2x", "the cheapest network has 2, so wanted at least 3.5"),
        ([12.6, None], "the most expensive network has 14, so wanted at most 12.5"),
        ([5.0, 6.0], "the range is 1 wide, wanted at least 1.5"),
    ],
)
def test_a_limit_below_the_noise_is_an_error_that_names_the_noise(limit: Any, said: str) -> None:
    with pytest.raises(ConstraintError, match=r"below the noise: one in ten .* off by 1.5 ms or more") as told:
        search(limit)
    assert said in str(told.value)


@pytest.mark.parametrize("limit", [3.5, 14.0, 99.0, [12.5, None], [5.0, 6.5], [None, "0.5x"]])
def test_a_limit_that_can_be_told_apart_is_taken(limit: Any) -> None:
    assert search(limit).ask()


@pytest.mark.parametrize("spread", [None, 0.0, "wide", True, float("nan")])
def test_a_table_without_a_spread_is_taken_as_before(spread: Any) -> None:
    assert search(2.0, spread).feasible_share == pytest.approx(1 / 27)


def test_an_impossible_limit_is_still_told_as_impossible() -> None:
    with pytest.raises(ConstraintError, match=r"no architecture keeps latency_ms <= 1; the nearest reachable .* is 2"):
        search(1.0)


def test_counted_metrics_have_no_noise() -> None:
    made = RandomSearch(constraints={"macs": 20}, cost_table=table())
    made.setup(SPACE)
    assert made.feasible_share == pytest.approx(1 / 27)


def test_a_comparison_knows_what_nine_of_ten_predictions_are_off_by() -> None:
    measured = np.arange(10.0, 30.0)
    errors = np.array([0.1] * 17 + [0.5, 3.0, 9.0])
    assert compare_latency(measured + errors, measured)["spread_ms"] == pytest.approx(np.percentile(errors, 90))


def test_measured_tables_hold_their_spread_and_refuse_what_is_finer() -> None:
    """Options that take no time: whatever differs between them is noise."""
    model = nn.Sequential(*(LayerChoice([nn.Identity(), nn.Identity()], key=f"k{i}") for i in range(4)))
    measured = measure_latency(model, (8,), rounds=4, held_out=6, repeats=3, threads=1)
    spread = measured.about["latency_ms"]["held_out"]["spread_ms"]
    assert spread > 0
    again = CostTable.from_json(json.loads(json.dumps(measured.to_json())))
    low, high = (getattr(again.bounds("latency_ms"), end) for end in ("low", "high"))
    limit = low + 0.5 * min(spread, high - low)
    assert low < limit < high
    with pytest.raises(ConstraintError, match="below the noise"):
        RandomSearch(constraints={"latency_ms": limit}, cost_table=again)


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["macs<=0.6x"], {"macs": [None, "0.6x"]}),
        (["0.4x <= macs <= 0.60x"], {"macs": ["0.4x", "0.6x"]}),
        (["macs>=.5x", "macs<=100"], {"macs": ["0.5x", 100.0]}),
        (["macs<=0.6x", "macs<=0.5x"], {"macs": [None, "0.5x"]}),
    ],
)
def test_relative_limits_are_read(texts: list[str], wanted: object) -> None:
    assert constraints_of(texts) == wanted


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["macs<=0.6x", "macs<=100"], "has 0.6x and 100.0 as ends, wanted both as costs or both as multiples"),
        (["macs<=0.4x", "macs>=0.6x"], "leaves nothing"),
        (["macs<=x"], "wanted such as"),
    ],
)
def test_relative_limits_that_cannot_be_read_are_explained(texts: list[str], said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        constraints_of(texts)


@pytest.mark.parametrize(
    ("limit", "low", "high"),
    [
        ("0.5x", -np.inf, 70.0),
        (["0.5x", None], 70.0, np.inf),
        ([" 0.5x", "1x"], 70.0, 140.0),
        ([20, "0.5x"], 20.0, 70.0),
    ],
)
def test_relative_limits_are_of_the_largest_network_and_inclusive(limit: Any, low: float, high: float) -> None:
    made = Evolution(constraints={"macs": limit}, cost_table=table(), candidate_pool_size=30, candidate_top_k=5)
    assert made.constraints == (Limit("macs", low, high),)
    made.setup(SPACE)
    costs = [table().cost("macs", proposal.tokens) for proposal in made.ask(60)]
    every = [table().cost("macs", tokens) for tokens in np.ndindex(*SPACE.radices)]
    assert sorted(costs) == sorted(cost for cost in every if low <= cost <= high)
    assert 70.0 in costs or high == 140.0


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("0.1x", "no architecture keeps macs <= 14; the nearest reachable macs is 20"),
        ([100, "0.5x"], "100 <= macs <= 0.5x is an empty range: 100 to 70"),
        (["0.6x", "0.5x"], "an empty range"),
        ("halfx", "wanted the highest cost allowed, a multiple such as 0.6x"),
        ("nanx", "wanted the highest cost allowed"),
    ],
)
def test_relative_limits_that_cannot_be_kept_are_explained(limit: Any, said: str) -> None:
    with pytest.raises(ConstraintError, match=said):
        RandomSearch(constraints={"macs": limit}, cost_table=table()).setup(SPACE)


def test_a_relative_limit_survives_its_journal_and_is_drawn_as_a_cost(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    table().save(tmp_path / "costs.json")
    given: dict[str, Any] = {"constraints": {"macs": "0.5x"}, "cost_table": tmp_path / "costs.json"}
    run = Run.start(RandomSearch(**given), SPACE, path=path)
    first = [run.ask()[0].tokens for _ in range(3)]
    run.tell(0, 1.0)
    run.close()
    run = Run.resume(RandomSearch(**given), path)
    assert [trial.tokens for trial in run.search.trials.values()] == first
    run.close()
    seen, header = load(path)
    assert header["search"]["arguments"]["constraints"] == {"macs": [None, "0.5x"]}
    assert collect_costs(seen, header, [seen.search.trials[0]])["macs"].limits == [70.0]
    with pytest.raises(JournalError, match="wanted those and not"):
        Run.resume(RandomSearch(**given | {"constraints": {"macs": "0.6x"}}), path)


def test_relative_limits_work_in_commands_configurations_and_sanas(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(json.dumps(SPACE.to_json()))
    table().save(tmp_path / "costs.json")
    words = ("search", "space.json", "--evaluate", "builtins:len", "--trials", "30", "--cost-table", "costs.json")
    said = nas(*words, "--constraint", "macs<=0.5x", "-o", "run", cwd=tmp_path)
    assert "macs <= 70:" in said
    assert "below the noise" in nas(*words, "--constraint", "latency_ms<=0.2x", "-o", "no", cwd=tmp_path, code=1)
    arguments = {"constraints": {"latency_ms": "0.5x"}, "cost_table": "costs.json"}
    config = {
        "searchSpaceFile": "space.json",
        "trialCommand": "python3 trial.py",
        "trialConcurrency": 1,
        "tuner": {"className": "nas_tuners.RandomTuner", "codeDirectory": ".", "classArgs": arguments},
        "trainingService": {"platform": "local"},
    }
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    assert "is fine" in nas("check", "config.yml", cwd=tmp_path)
    net = ("MobileNetV2BlockSpace", {"input_size": 32, "output_size": 8, "block_num": 2})
    with sanas.SANAS([net], save_checkpoint=None, constraints={"macs": "0.5x"}, search_steps=2) as loop:
        (limit,), costs = loop.run.search.constraints, loop.run.search.cost_table
        assert costs is not None
        assert limit.high == 0.5 * costs.bounds("macs").high
        for _ in loop:
            assert costs.cost("macs", loop.current_info()["current_tokens"]) <= limit.high
            loop.reward(1.0)
