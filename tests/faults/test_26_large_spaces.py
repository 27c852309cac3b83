"""Fault 26: spaces of any size are searched, shown and checked; no count is too long for a float or a text."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest

from nas_tuners.runs.run import Run
from nas_tuners.search import RandomSearch
from nas_tuners.search.algorithms import ALGORITHMS
from search_spaces import Space, SpaceError
from search_spaces.cost import CostTable
from search_spaces.errors import ConstraintError
from tests.nas_tuners.nas import Nas
from tests.spaces import inputs, layer

HERE = "tests.nas_tuners.functions"


def content(keys: int) -> dict[str, object]:
    return {f"k{i}": layer("a", "b", "c", "d") for i in range(keys)}


def table_of(space: Space) -> CostTable:
    """Option i of a key costs i."""
    return CostTable(space, {"macs": 0}, {"macs": {key: [0, 1, 2, 3] for key in space.keys}})


@pytest.fixture
def nas(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nas:
    return Nas(capfd, monkeypatch)


@pytest.mark.parametrize(("keys", "size"), [(20, "1.1e+12"), (520, "10^313"), (7200, "10^4335")])
def test_a_space_of_any_size_has_a_repr(keys: int, size: str) -> None:
    assert f"{keys} keys, {size} architectures" in repr(Space.from_json(content(keys)))


def test_a_key_of_too_many_subsets_is_an_error_with_its_place() -> None:
    candidates = [f"c{i}" for i in range(1024)]
    with pytest.raises(SpaceError, match=r"key 'skip': got 10\^308 options, wanted at most 2\^62"):
        Space.from_json({"skip": inputs(None, *candidates)})
    with pytest.raises(SpaceError, match=r"got 10\^\d{4} options"):
        Space.from_json({"skip": inputs(None, *(f"c{i}" for i in range(20_000)))})


@pytest.mark.parametrize(
    ("limit", "said"),
    [("macs<=780", "50.78 % of 10^313"), ("macs<=1", "% of 10^313"), ("macs<=0", "% of 10^313")],
)
def test_a_large_space_with_a_constraint(limit: str, said: str, tmp_path: Path, nas: Nas) -> None:
    (tmp_path / "space.json").write_text(json.dumps(content(520)))
    table_of(Space.from_json(content(520))).save(tmp_path / "costs.json")
    words = (
        "search",
        "space.json",
        "--evaluate",
        f"{HERE}:good",
        "--trials",
        "1",
        "-o",
        "run",
        "--algorithm",
        "random",
    )
    assert said in nas(*words, "--cost-table", "costs.json", "--constraint", limit, cwd=tmp_path)
    nas("show", "run", cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_space_of_more_than_4300_digits(algorithm: str, tmp_path: Path, nas: Nas) -> None:
    (tmp_path / "space.json").write_text(json.dumps(content(7200)))
    words = ("search", "space.json", "--evaluate", f"{HERE}:good", "--trials", "3", "-o", "run")
    nas(*words, "--algorithm", algorithm, cwd=tmp_path)
    assert "7200 choices, 10^4335 architectures" in nas("show", "run", cwd=tmp_path)
    assert "7200 choices, about 10^4335 architectures, digest" in nas("check", "space.json", cwd=tmp_path)
    assert json.loads(nas("show", "run", "--json", cwd=tmp_path))["counts"]["asked"] >= 3
    nas("export", "run", "-o", "best", cwd=tmp_path)
    nas("resume", "run", "--trials", "5", cwd=tmp_path)


@pytest.mark.parametrize("most", [0, 1, 3])
@pytest.mark.parametrize("end", ["low", "high"])
def test_a_share_that_no_float_holds_is_counted(most: int, end: str, caplog: pytest.LogCaptureFixture) -> None:
    """Of 4^600 architectures those within three of an end were called impossible."""
    space = Space.from_json(content(600))
    limit = [None, most] if end == "low" else [1800 - most, None]
    with caplog.at_level(logging.INFO):
        run = Run.start(RandomSearch(seed=1, constraints={"macs": limit}, cost_table=table_of(space)), space)
    distances = [sum(p.tokens) if end == "low" else 1800 - sum(p.tokens) for p in run.ask(5)]
    expected = math.comb(600 + most, most)  # ways to spread up to `most` over 600 keys
    assert len(distances) == min(5, expected)
    assert max(distances) <= most
    assert f"exactly {expected} architectures" in caplog.text


def test_what_is_impossible_is_still_said_to_be(tmp_path: Path) -> None:
    space = Space.from_json(content(600))
    costs = CostTable(space, {"macs": 0}, {"macs": {key: [0, 2, 4, 6] for key in space.keys}})
    for limit, nearest in (([-5, -1], "0"), ([3601, None], "3600"), ([2.5, 3.5], "[24]"), ([3597, 3597.5], "359[68]")):
        with pytest.raises(ConstraintError, match=f"the nearest reachable macs is {nearest}\\."):
            Run.start(RandomSearch(constraints={"macs": limit}, cost_table=costs), space)
