"""Cost tables of models: additive ones are exact, others say how far off they are."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from mutators import InputChoice, LayerChoice, RandomMutator, apply_choices, extract
from mutators.costs import count_macs, count_params, measure_cost
from search_spaces.cost import CostTable
from search_spaces.errors import CostError
from tests.search_spaces.nets.models import small, space_of

SHAPE = (3, 8, 8)


def test_sums_are_whole_networks() -> None:
    """A choice inside an option costs something where that is chosen."""
    model = small()
    table, space = measure_cost(model, SHAPE), space_of(model)
    assert table.space == space
    assert table.metrics == ("macs", "params")
    for tokens in itertools.product(*map(range, space.radices)):
        network = extract(model, space.decode(tokens))
        assert table.cost("macs", tokens) == count_macs(network, SHAPE)
        assert table.cost("params", tokens) == count_params(network)
    assert table.about["check"]["exact"] == {"macs": True, "params": True}


def test_about_says_for_what_and_how_well() -> None:
    about = measure_cost(small(), SHAPE, checks=50, seed=3).about
    check = about.pop("check")
    assert about == {"model": "Small", "input_shape": [3, 8, 8], "device": "cpu", "torch": torch.__version__}
    assert 20 < check.pop("architectures") <= 50
    assert check["seed"] == 3


def test_an_option_costs_what_stands_inside_the_choice() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), LayerChoice([nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)], key="op")
    )
    table = measure_cost(model, SHAPE)
    assert table.options["macs"] == {"op": (64 * 64, 64 * 64 * 9)}
    assert table.options["params"] == {"op": (72, 584)}
    assert table.fixed == {"macs": 24 * 64, "params": 32}
    assert table.about["check"]["exact"] == {"macs": True, "params": True}


class _NotAdditive(nn.Module):
    """The second choice works on as many pixels as the first leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = LayerChoice([nn.Identity(), nn.MaxPool2d(2)])
        self.conv = LayerChoice([nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.pool(x))


def test_a_network_that_is_not_additive_says_so() -> None:
    check = measure_cost(_NotAdditive(), SHAPE).about["check"]
    assert check["exact"] == {"macs": False, "params": True}
    assert check["architectures"] == 4
    whole, halved = 12 * 9 * 64, 12 * 9 * 16
    predicted = 12 * 64 + (whole - 12 * 64) + (12 * 16 - 12 * 64)
    assert check["max_relative_error"]["macs"] == pytest.approx(abs(predicted - halved) / halved)


def test_the_same_key_twice_is_one_row() -> None:
    choices = [LayerChoice([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)], key="both") for _ in range(2)]
    table = measure_cost(nn.Sequential(*choices), SHAPE)
    assert table.options["macs"] == {"both": (2 * 9 * 64, 2 * 81 * 64)}
    assert table.about["check"]["exact"]["macs"]


def test_the_model_is_as_it_was() -> None:
    model = small()
    space = space_of(model)
    apply_choices(model, space.decode((1, 0, 1, 3)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure_cost(model, SHAPE, checks=3)
    assert model.first.chosen == (1,)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_table_survives_a_file(tmp_path: object) -> None:
    table = measure_cost(small(), SHAPE, checks=5)
    path = f"{tmp_path}/table.json"
    table.save(path)
    again = CostTable.load(path)
    assert (again.digest, again.about) == (table.digest, table.about)


def test_progress_is_told_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    measure_cost(small(), SHAPE, checks=4, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total in seen} == {len(seen)}


def test_one_metric_alone_and_unknown_ones() -> None:
    assert measure_cost(small(), SHAPE, ["params"], checks=2).metrics == ("params",)
    with pytest.raises(CostError, match=r"metrics are \['flops'\], wanted some of macs, params"):
        measure_cost(small(), SHAPE, ["flops"])


def test_a_model_without_choices() -> None:
    with pytest.raises(CostError, match="Linear has no choices"):
        measure_cost(nn.Linear(3, 4), (3,))


def test_too_many_options() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inputs = InputChoice(n_candidates=13, n_chosen=None, key="inputs")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inputs([x] * 13)

    with pytest.raises(CostError, match="'inputs' has 8192 options, wanted at most 4096"):
        measure_cost(Wide(), SHAPE)


def test_a_bound_mutator_is_named() -> None:
    model = small()
    RandomMutator(model)
    with pytest.raises(ValueError, match="release"):
        measure_cost(model, SHAPE)


def test_an_architecture_that_cannot_run_is_named() -> None:
    model = nn.Sequential(LayerChoice({"good": nn.Conv2d(3, 4, 1), "bad": nn.Conv2d(5, 4, 1)}, key="op"))
    with pytest.raises(CostError, match="architecture op bad"):
        measure_cost(model, SHAPE)
    with pytest.raises(CostError, match="Sequential cannot be run on 1x7x8x8: RuntimeError"):
        measure_cost(model, (7, 8, 8))


def test_a_forward_that_looks_at_numbers() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.op = LayerChoice([nn.Linear(4, 3), nn.Linear(4, 3, bias=False)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.op(x) if x.sum() < 1 else x

    assert measure_cost(Looks(), (4,)).options["params"]["op"] == (15, 12)
