"""Once: a searched learning rate and a limit on MACs excluded each other: "key 'lr' is not in the table"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from mutators import LayerChoice
from mutators.costs import measure_cost
from nas_tuners.search import Annealing, Evolution, RandomSearch, Search
from nas_tuners.search.feasible.constraints import Feasible
from search_spaces import Space
from search_spaces.cost import CostError, CostTable
from search_spaces.cost.limits import Limit
from tests.nas_tuners.nas import Nas
from tests.spaces import layer

ARCHITECTURE = {f"k{i}": layer("a", "b", "c") for i in range(4)}
HYPER: list[dict[str, Any]] = [
    {"lr": {"_type": "loguniform", "_value": [1e-4, 0.1]}},
    {"lr": {"_type": "choice", "_value": [0.1, 0.01]}, "seed": {"_type": "randint", "_value": [0, 2**40]}},
    {"drop": {"_type": "quniform", "_value": [0.0, 0.5, 0.1]}, "wd": {"_type": "uniform", "_value": [0, 1]}},
]


def simple() -> CostTable:
    macs = {key: [1, 2, 3] for key in ARCHITECTURE}
    return CostTable(Space.from_json(ARCHITECTURE), {"macs": 1}, {"macs": macs})


def joint() -> CostTable:
    pairs = [(("k0", "k1"), [[1, 2, 3]] * 3), (("k2", "k3"), [[3, 2, 1]] * 3)]
    return CostTable(Space.from_json(ARCHITECTURE), {"macs": 1}, {"macs": {}}, joint={"macs": pairs})


@pytest.mark.parametrize("search", [RandomSearch, Annealing, Evolution])
@pytest.mark.parametrize("hyper", HYPER, ids=lambda hyper: "+".join(hyper))
@pytest.mark.parametrize("table", [simple(), joint()], ids=["sums", "joint"])
def test_limits_hold_beside_hyper_parameters(search: type[Search], hyper: dict[str, Any], table: CostTable) -> None:
    for space in ({**hyper, **ARCHITECTURE}, {**ARCHITECTURE, **hyper}):
        made = search(seed=3, constraints={"macs": 6}, cost_table=table)
        made.setup(Space.from_json(space))
        proposals = made.ask(60)
        assert len({proposal.tokens for proposal in proposals}) == 60
        costs = [table.cost("macs", [p.choices[key]["_idx"] for key in ARCHITECTURE]) for p in proposals]
        assert max(costs) <= 6
        alone = Feasible(table.space, table, [Limit("macs", -float("inf"), 6.0)])
        assert made.feasible_share == pytest.approx(alone.share, rel=0.05)


def test_a_table_goes_with_any_hyper_parameters_but_with_no_other_layers(tmp_path: Path) -> None:
    wide = simple().arranged(Space.from_json({**HYPER[1], **ARCHITECTURE}))
    wide.save(tmp_path / "costs.json")
    again = CostTable.load(tmp_path / "costs.json")
    assert again.digest == wide.digest and again.columns("macs")[1].shape == (2**40,)
    for hyper in (*HYPER, {"lr": {"_type": "choice", "_value": [7]}}, {}):
        space = Space.from_json({**ARCHITECTURE, **hyper})
        assert again.arranged(space).cost("macs", (2,) * 4 + (0,) * len(hyper)) == 13
    with pytest.raises(CostError, match="key 'lr' is choice"):
        again.arranged(Space.from_json({**ARCHITECTURE, "lr": layer("0.1", "0.01")}))


def test_a_hyper_parameter_with_costs_of_its_own_keeps_them() -> None:
    batch = {"batch": {"_type": "choice", "_value": [1, 8]}}
    space = Space.from_json({**ARCHITECTURE, **batch})
    table = CostTable(space, {"ms": 0}, {"ms": {**{key: [0, 0, 0] for key in ARCHITECTURE}, "batch": [1, 8]}})
    assert table.arranged(Space.from_json({**batch, **ARCHITECTURE})).cost("ms", (1, 0, 0, 0, 0)) == 8
    with pytest.raises(CostError, match="key 'batch'"):
        table.arranged(Space.from_json({**ARCHITECTURE, "batch": {"_type": "choice", "_value": [1, 2]}}))
    with pytest.raises(CostError, match="key 'batch' is in the table only"):
        table.arranged(Space.from_json(ARCHITECTURE))


def test_nas_search_with_a_measured_table_and_a_searched_learning_rate(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nas = Nas(capfd, monkeypatch)
    model = nn.Sequential(LayerChoice({"wide": nn.Linear(8, 8), "none": nn.Identity()}, key="fc"))
    measure_cost(model, (8,)).save(tmp_path / "costs.json")
    (tmp_path / "space.json").write_text(
        '{"fc": {"_type": "layer_choice", "_value": ["wide", "none"]}, "lr": {"_type": "uniform", "_value": [0, 1]}}'
    )
    (tmp_path / "functions.py").write_text(
        "from mutators import hyperparameter\n"
        "def score(choices):\n"
        "    assert choices['fc']['_value'] == 'none'\n"
        "    assert hyperparameter('lr', low=0, high=1) == choices['lr']\n"
        "    return -abs(choices['lr'] - 0.75)\n"
    )
    words = ("search", "space.json", "--evaluate", "functions:score", "--cost-table", "costs.json", "-o", "found")
    said = nas(*words, "--constraint", "macs<=10", "--trials", "40", cwd=tmp_path)
    assert "macs <= 10: 50 % of 66 architectures" in said
    assert "33 trials; there is nothing more to try" in said and "lr=0.75" in said
