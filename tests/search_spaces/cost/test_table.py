"""Test cost tables: sums, files, and every complaint about them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import Space
from search_spaces.cost import CostTable
from search_spaces.cost.bounds import Bounds
from search_spaces.errors import CostError

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
    other = {"a": {"_type": "layer_choice", "_value": ["x", "y"]}, "c": AB["a"]}
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
        ({"options": {"macs": {"b": [1, 2]}}}, "has no key 'a'"),
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
        CostTable(Space.from_json(AB), {"macs": float("nan")}, {"macs": {"b": [1]}})
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


PAIR = [[0, 1], [2, 3.5], [4, 5]]  # of a and b


def joint_table(space: dict[str, Any] = AB) -> CostTable:
    joint = {"macs": [(("a", "b"), PAIR), (("b", "a"), [[0, 0, 7], [0, 0, 0]])]}
    return CostTable(Space.from_json(space), {"macs": 100, "params": 1}, {**OPTIONS}, {"device": "none"}, joint)


OPTIONS = {"macs": {"a": [10, 20, 30]}, "params": {"a": [1, 2, 3], "b": [4, 5]}}


def test_joint_terms_are_added_to_the_options() -> None:
    made = joint_table()
    assert made.cost("macs", (1, 1)) == 100 + 20 + 3.5 and made.cost("macs", (2, 0)) == 100 + 30 + 4 + 7
    assert made.cost("params", (2, 0)) == 1 + 3 + 4  # a metric without joint terms
    assert made.options["macs"] == {"a": (10, 20, 30), "b": (0, 0)}
    only = CostTable(made.space, {"macs": 1}, {}, joint={"macs": [(["a", "b"], np.array(PAIR))]})
    assert only.cost("macs", (2, 1)) == 6


@st.composite
def joint_tables(draw: Any) -> tuple[CostTable, list[tuple[tuple[int, ...], Any]]]:
    """Draw a table, and return it with its terms as they were given."""
    radices = draw(st.lists(st.integers(1, 4), min_size=2, max_size=6))
    space = Space.from_json({f"k{i}": {"_type": "randint", "_value": [0, r]} for i, r in enumerate(radices)})
    numbers = draw(st.sampled_from([st.integers(-50, 50), st.floats(-50, 50, width=32)]))
    chosen = st.lists(st.integers(0, len(radices) - 1), min_size=2, max_size=6, unique=True)
    terms = []
    for keys in draw(st.lists(chosen, min_size=1, max_size=5)):
        shape = [radices[key] for key in keys]
        cells = draw(st.lists(numbers, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        terms.append((tuple(keys), np.array(cells, dtype=float).reshape(shape)))
    single = [draw(st.lists(numbers, min_size=radix, max_size=radix)) for radix in radices]
    joint = {"macs": [(tuple(space.keys[key] for key in keys), costs) for keys, costs in terms]}
    made = CostTable(space, {"macs": 3}, {"macs": dict(zip(space.keys, single, strict=True))}, joint=joint)
    return made, terms + [((at,), np.array(row, dtype=float)) for at, row in enumerate(single)]


@settings(max_examples=60, deadline=None)
@given(joint_tables())
def test_a_joint_cost_is_the_sum_of_its_terms(drawn: tuple[CostTable, list[tuple[tuple[int, ...], Any]]]) -> None:
    made, terms = drawn
    rows = list(itertools.islice(itertools.product(*map(range, made.space.radices)), 500))
    wanted = [3 + sum(costs[tuple(row[key] for key in keys)] for keys, costs in terms) for row in rows]
    single = [made.cost("macs", row) for row in rows]
    assert single == pytest.approx(wanted, rel=1e-12, abs=1e-9)
    assert made.costs("macs", rows).tolist() == single  # to the last bit
    again = CostTable.from_json(json.loads(json.dumps(made.to_json())))
    assert again.digest == made.digest and [again.cost("macs", row) for row in rows] == single
    turned = made.arranged(Space(dict(reversed(made.space.domains.items()))))
    assert turned.digest == made.digest
    assert turned.costs("macs", [row[::-1] for row in rows]) == pytest.approx(wanted, rel=1e-12, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(joint_tables())
def test_bounds_are_reached(drawn: tuple[CostTable, list[tuple[tuple[int, ...], Any]]]) -> None:
    made, _ = drawn
    costs = made.costs("macs", list(itertools.product(*map(range, made.space.radices))))
    found = made.bounds("macs")
    assert found.exact and [found.low, found.high] == pytest.approx([costs.min(), costs.max()], rel=1e-12, abs=1e-9)


def test_bounds_where_too_many_keys_meet_hold_all_costs() -> None:
    space = Space.from_json({f"k{i}": {"_type": "randint", "_value": [0, 5]} for i in range(20)})
    rng = np.random.default_rng(0)
    pairs = [((a, b), rng.integers(0, 9, (5, 5))) for a, b in itertools.combinations(space.keys, 2)]
    made = CostTable(space, {"macs": 7}, {}, joint={"macs": pairs})
    found, costs = made.bounds("macs"), made.costs("macs", space.sample_tokens(rng, 1000))
    assert not found.exact and found.low <= costs.min() and costs.max() <= found.high
    assert (found.low, found.high) == (7 + sum(c.min() for _, c in pairs), 7 + sum(c.max() for _, c in pairs))
    assert table().bounds("macs") == Bounds(111, 124, True)


def test_terms_are_folded_into_wider_ones() -> None:
    made = joint_table()
    ((keys, costs),) = made.terms("macs")
    assert keys == (0, 1) and costs.tolist() == [[10, 11], [22, 23.5], [41, 35]]
    assert [keys for keys, _ in made.terms("params")] == [(0,), (1,)] and made.whole("params")
    assert not made.whole("macs")
    with pytest.raises(CostError, match="joint terms"):
        made.columns("macs")
    for tokens in [(0,), (0, 0, 0)]:
        with pytest.raises(CostError, match="wanted 2"):
            made.cost("macs", tokens)
        with pytest.raises(CostError, match="shape"):
            made.costs("macs", [tokens])


def test_the_digest_knows_joint_terms_and_the_file_says_so(tmp_path: Path) -> None:
    made = joint_table()
    assert made.to_json()["format"] == 2 and table().to_json()["format"] == 1 and "joint" not in table().to_json()
    other = CostTable(made.space, made.fixed, made.options, joint={"macs": [(("a", "b"), PAIR)]})
    assert len({made.digest, other.digest, CostTable(made.space, made.fixed, made.options).digest}) == 3
    assert CostTable(made.space, made.fixed, made.options, joint={"macs": []}).to_json()["format"] == 1
    made.save(tmp_path / "costs.json")
    assert CostTable.load(tmp_path / "costs.json").to_json() == made.to_json()
    assert json.loads((tmp_path / "costs.json").read_text())["joint"]["macs"][0] == [["a", "b"], PAIR]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 1}, "cannot be in format 1"),
        ({"joint": 3}, "joint is 3"),
        ({"joint": {}}, "options has no metric 'macs'"),
        ({"joint": {"macs": 3}}, "joint['macs'] is 3, wanted a list"),
        ({"joint": {"macs": [3]}}, "joint['macs'][0] is 3, wanted a pair"),
        ({"joint": {"macs": [[["a"], [1, 2, 3]]]}}, "has keys ['a'], wanted 2 to 20 different keys"),
        ({"joint": {"macs": [[["a", "a"], [[1, 2, 3]] * 3]]}}, "wanted 2 to 20 different keys"),
        ({"joint": {"macs": [["ab", PAIR]]}}, "has keys 'ab'"),
        ({"joint": {"macs": [[["a", "c"], PAIR]]}}, "['c'], which are not in the space"),
        ({"joint": {"macs": [[["b", "a"], PAIR]]}}, "wanted nested lists of 2 x 3"),
        ({"joint": {"macs": [[["a", "b"], [[1, 2], [3], [4, 5]]]]}}, "wanted nested lists of 3 x 2"),
        ({"joint": {"macs": [[["a", "b"], [[1, 2], [3, True], [4, 5]]]]}}, "at [1, 1] True, wanted a finite number"),
        ({"joint": {"macs": [[["a", "b"], [[1, 2], [3, 4], [4, float("inf")]]]]}}, "at [2, 1] inf"),
        ({"joint": {"macs": [[["a", "b"], PAIR]], "flops": [[["a", "b"], PAIR]]}}, "which joint has"),
        ({"options": {"macs": {"c": [1]}}}, "'c', which is not in the space"),
    ],
)
def test_a_file_with_wrong_joint_terms_says_what(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    data = CostTable(Space.from_json(AB), {"macs": 1}, {}, joint={"macs": [(("a", "b"), PAIR)]}).to_json()
    data["options"] = {}
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({**data, **change}))
    with pytest.raises(CostError) as error:
        CostTable.load(path)
    assert said in str(error.value) and str(path) in str(error.value)


def test_a_term_with_too_many_costs_is_refused_before_they_are_read() -> None:
    space = Space.from_json({key: {"_type": "randint", "_value": [0, 1025]} for key in "ab"})
    with pytest.raises(CostError, match="has 1050625 costs, wanted at most 1048576"):
        CostTable(space, {"macs": 0}, {}, joint={"macs": [(("a", "b"), [])]})


def test_a_joint_term_says_itself_what_keys_cost_that_hang_on_others_of_it() -> None:
    """Such as the measured time of a block of one to three layers; it counts where the stage itself is there."""
    layer = {"_type": "layer_choice", "_value": ["1", "3"]}
    space = Space.from_json(
        {
            "stage": {"_type": "layer_choice", "_value": ["no", "yes"]},
            "depth": {"_type": "layer_choice", "_value": ["1", "2"], "_when": {"stage": ["yes"]}},
            "first": layer | {"_when": {"stage": ["yes"]}},
            "second": layer | {"_when": {"depth": ["2"]}},
        }
    )
    costs = [[[2, 5], [2, 6]], [[3, 7], [3, 8]]]  # (first, second, depth)
    block = CostTable(space, {"ms": 1}, {}, joint={"ms": [(("first", "second", "depth"), costs)]})
    found = {tokens: block.cost("ms", tokens) for tokens in map(tuple, space.every().tolist())}
    assert found == {
        **{(0, 0, 0, 0): 1},
        **{(1, 0, 0, 0): 3, (1, 0, 1, 0): 4},
        **{(1, 1, 0, 0): 6, (1, 1, 0, 1): 7, (1, 1, 1, 0): 8, (1, 1, 1, 1): 9},
    }
    assert block.bounds("ms") == Bounds(1, 9, True)
