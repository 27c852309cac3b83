"""Cost tables: sums, files, and every complaint about them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces import Space
from search_spaces.cost import CostError, CostTable

AB = {"a": {"_type": "layer_choice", "_value": ["x", "y", "z"]}, "b": {"_type": "randint", "_value": [0, 2]}}
BA = dict(reversed(AB.items()))


def table(space: dict[str, Any] = AB) -> CostTable:
    options = {"macs": {"a": [1, 2, 4], "b": [10, 20]}, "latency_ms": {"a": [0.1, 0.2, 0.3], "b": [0.0, 0.7]}}
    return CostTable(Space.from_json(space), {"macs": 100, "latency_ms": 0.5}, options, {"device": "none"})


def test_cost_is_the_fixed_part_and_the_options() -> None:
    assert table().cost("macs", (2, 1)) == 124
    assert table().cost("latency_ms", (1, 1)) == pytest.approx(1.4)
    assert table().metrics == ("macs", "latency_ms")


def test_many_costs_at_once_equal_single_ones_to_the_last_bit() -> None:
    rows = np.array([(a, b) for a in range(3) for b in range(2)])
    for metric in table().metrics:
        assert table().costs(metric, rows).tolist() == [table().cost(metric, row) for row in rows.tolist()]


def test_keys_in_another_order() -> None:
    other = table().arranged(Space.from_json(BA))
    assert other.cost("macs", (1, 2)) == table().cost("macs", (2, 1))
    assert other.digest == table().digest


def test_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "costs.json"
    table().save(path)
    loaded = CostTable.load(path)
    assert loaded.digest == table().digest and loaded.about == {"device": "none"}
    assert json.loads(path.read_text())["options"]["macs"]["a"] == [1, 2, 4]  # to the unit, no 1.0
    assert [file.name for file in path.parent.iterdir()] == ["costs.json"]


def test_a_table_of_another_space_names_the_difference() -> None:
    other = {"a": {"_type": "layer_choice", "_value": ["x", "y"]}, "c": AB["b"]}
    with pytest.raises(CostError) as error:
        table().arranged(Space.from_json(other))
    text = str(error.value)
    assert "'b' is in the table only" in text and "'c' is not in the table" in text and "['x', 'y', 'z']" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fixed": {}}, "at least one metric"),
        ({"fixed": {"macs": True}}, "fixed['macs'] is True"),
        ({"fixed": {"macs": 1, "params": 1}}, "options has no metric 'params'"),
        ({"options": {"macs": {"a": [1, 2, 4]}}}, "has no key 'b'"),
        ({"options": {"macs": {"a": [1, 2], "b": [1, 2]}}}, "got 2 costs, wanted a list of 3"),
        ({"options": {"macs": {"a": [1, 2, "4"], "b": [1, 2]}}}, "['a'][2] is '4', wanted a finite number"),
        ({"options": {"macs": {"a": [1, 2, 4], "b": [1, 2], "c": [1]}}}, "'c', which is not in the space"),
        ({"digest": "0" * 64}, "digest"),
        ({"format": 2}, "format 1"),
        ({"space": {}}, "search space is wrong"),
    ],
)
def test_a_file_that_is_wrong_says_what(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    data = CostTable(Space.from_json(AB), {"macs": 1}, {"macs": {"a": [1, 2, 4], "b": [1, 2]}}).to_json()
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({**data, **change}))
    with pytest.raises(CostError) as error:
        CostTable.load(path)
    assert said in str(error.value) and str(path) in str(error.value)


def test_all_problems_at_once() -> None:
    with pytest.raises(CostError) as error:
        CostTable(Space.from_json(AB), {"macs": float("nan")}, {"macs": {"a": [1]}})
    assert len(error.value.problems) == 3


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(CostError, match="nas cost"):
        CostTable.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(CostError, match="no JSON"):
        CostTable.load(tmp_path / "bad.json")


def test_keys_with_too_many_options_are_refused() -> None:
    space = Space.from_json({"k": {"_type": "randint", "_value": [0, 4097]}})
    with pytest.raises(CostError, match="at most 4096"):
        CostTable(space, {"macs": 0}, {"macs": {"k": list(range(4097))}})


def test_unknown_metric_and_wrong_shape() -> None:
    with pytest.raises(CostError, match="no metric 'flops'"):
        table().cost("flops", (0, 0))
    with pytest.raises(CostError, match="shape"):
        table().costs("macs", [[0, 0, 0]])


def test_importing_a_table_costs_no_torch() -> None:
    code = "import sys; from search_spaces.cost import CostTable; CostTable; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
