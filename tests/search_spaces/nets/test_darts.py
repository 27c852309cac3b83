"""Compare the DARTS space with the paper's own numbers and closed formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import search_spaces
from mutators import DartsMutator, RandomMutator, extract, search_space_of
from mutators.costs import count_macs, count_params
from search_spaces import Space
from search_spaces.nets import darts
from search_spaces.nets.layers.darts_operations import FactorizedReduce, Zero

CHANNELS = 4


def tiny(**config: int) -> nn.Module:
    return search_spaces.build("darts", **{"channels": CHANNELS, "layers": 3, "nodes": 2, "num_classes": 5, **config})


def uniform(operation: str, nodes: int = 2) -> darts.Genotype:
    """Return a genotype whose nodes take the cell's two inputs, through one operation."""
    return {kind: [(operation, i) for _ in range(nodes) for i in (0, 1)] for kind in darts.KINDS}


def network_of(model: nn.Module, genotype: darts.Genotype) -> nn.Module:
    space = Space.from_json(search_space_of(model))
    return extract(model, space.decode(darts.encode_genotype(genotype)))


class TestSpace:
    def test_keys_and_size(self) -> None:
        space = search_space_of(tiny())
        assert list(space)[:4] == ["normal_n2_switch", "normal_n2_p0", "normal_n2_p1", "normal_n3_switch"]
        assert len(space) == 2 * (1 + 2 + 1 + 3)
        assert space["reduce_n3_switch"]["_value"] == {
            "candidates": ["reduce_n3_p0", "reduce_n3_p1", "reduce_n3_p2"],
            "n_chosen": 2,
        }
        assert space["normal_n2_p0"]["_value"] == list(darts.OPERATIONS)
        assert Space.from_json(space).size == (8**5 * 3) ** 2

    def test_the_published_size(self) -> None:
        space = Space.from_json(search_space_of(search_spaces.build("darts")))
        assert space.size == (8**14 * math.prod(math.comb(n, 2) for n in (2, 3, 4, 5))) ** 2

    def test_the_stack(self) -> None:
        kinds = [cell.kind for cell in darts.plan_cells(20, 36)]
        assert [i for i, kind in enumerate(kinds) if kind == "reduce"] == [6, 13]
        assert [cell.channels for cell in darts.plan_cells(8, 16)] == [16, 16, 32, 32, 32, 64, 64, 64]
        assert [i for i, cell in enumerate(darts.plan_cells(20, 36)) if cell.halved] == [7, 14]

    def test_all_that_is_wrong_is_listed(self) -> None:
        with pytest.raises(ValueError, match=r"channels is odd, wanted an even number") as caught:
            search_spaces.build("darts", channels=3, layers=2, nodes=0)
        assert str(caught.value).count("\n") == 3


def _cost(operation: str, c: int, h: int, stride: int) -> tuple[int, int]:
    """Return multiply-adds and parameters, with affine batch norms, by the paper's description."""
    out = math.ceil(h / stride) ** 2
    if operation == "skip_connect" and stride == 2:
        return out * c * c, c * c + 2 * c
    kind, _, size = operation.partition("_conv_")
    if kind not in ("sep", "dil"):
        return 0, 0
    k, times = int(size[0]), 2 if kind == "sep" else 1
    return times * out * (c * k * k + c * c), times * (c * k * k + c * c + 2 * c)


def _expected(operation: str, size: int, nodes: int = 2, classes: int = 5) -> tuple[int, int]:
    stem = 3 * CHANNELS
    macs, params = size**2 * 27 * stem, 27 * stem + 2 * stem
    older, newer, h_older, h = stem, stem, size, size
    for cell in darts.plan_cells(3, CHANNELS):
        c, stride = cell.channels, 2 if cell.kind == "reduce" else 1
        assert cell.halved == (h_older != h)
        macs += (older + newer) * c * h**2
        params += (older + newer) * c + 4 * c
        for _ in range(2 * nodes):
            of_edge = _cost(operation, c, h, stride)
            macs, params = macs + of_edge[0], params + of_edge[1]
        older, newer, h_older, h = newer, nodes * c, h, math.ceil(h / stride)
    return macs + newer * classes, params + newer * classes + classes


class TestCosts:
    @pytest.mark.sampled(5)
    @pytest.mark.parametrize("size", [8, 13])
    @pytest.mark.parametrize("operation", darts.OPERATIONS)
    def test_a_uniform_architecture_costs_what_the_formula_says(self, operation: str, size: int) -> None:
        network = network_of(tiny(), uniform(operation))
        assert (count_macs(network, (3, size, size)), count_params(network)) == _expected(operation, size)

    def test_the_papers_cells_cost_what_its_authors_count(self) -> None:
        (reference,) = darts.REFERENCES
        assert reference.params == 3_349_342
        assert len(reference.tokens) == 2 * (4 + 14)


class TestRunning:
    @pytest.mark.sampled(8)
    @pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 32)])
    @pytest.mark.parametrize("operation", darts.OPERATIONS)
    def test_any_size_gives_logits(self, operation: str, size: tuple[int, int]) -> None:
        network = network_of(tiny(in_channels=1), uniform(operation))
        assert network(torch.rand(2, 1, *size)).shape == (2, 5)

    @pytest.mark.parametrize("size", [6, 7])
    @pytest.mark.parametrize("stride", [1, 2])
    def test_every_operation_has_the_same_shape(self, stride: int, size: int) -> None:
        shapes = {make(4, stride, True)(torch.rand(2, 4, size, size)).shape for make in darts.OPERATIONS.values()}
        assert shapes == {(2, 4, math.ceil(size / stride), math.ceil(size / stride))}

    def test_none_is_zero_and_the_halving_sees_even_and_odd_pixels(self) -> None:
        x = torch.rand(1, 2, 4, 4, requires_grad=True)
        assert not Zero(2)(x).any()
        halving = FactorizedReduce(2, 4, affine=True).eval()
        (gradient,) = torch.autograd.grad(halving(x).square().sum(), x)
        seen = gradient.abs().sum((0, 1)) > 0
        assert seen.tolist() == [[(i + j) % 2 == 0 and i % 2 == j % 2 for j in range(4)] for i in range(4)]

    def test_an_extracted_cell_holds_two_edges_a_node(self) -> None:
        network = network_of(tiny(), uniform("sep_conv_3x3"))
        names = {name.split(".")[4] for name in network.state_dict() if ".nodes.1." in name and "normal" in name}
        assert names == {"normal_n3_p0", "normal_n3_p1"}

    def test_a_drawn_path_is_the_extracted_network(self) -> None:
        torch.manual_seed(0)
        model = tiny()
        space = Space.from_json(search_space_of(model))
        x = torch.rand(2, 3, 8, 8)
        mutator = RandomMutator(model, seed=0)
        model.eval()
        for _ in range(3):
            mutator.reset()
            choices = {
                key: domain.choice(domain.token({"_idx": _indices(mask)}))
                for (key, mask), domain in zip(mutator.export().items(), space.domains.values(), strict=True)
            }
            assert torch.equal(extract(model, choices)(x), model(x))

    def test_a_search_step_and_its_export(self) -> None:
        torch.manual_seed(0)
        model = tiny()
        mutator = DartsMutator(model)
        assert len(mutator.parameters()) == 2 * 5
        x, y = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def loss() -> torch.Tensor:
            return nn.functional.cross_entropy(model(x), y)

        assert mutator.second_order_backward(loss, loss, optimizer).isfinite()
        assert all(p.grad is not None and p.grad.any() for p in mutator.parameters())
        choices = mutator.export_choices()
        assert "none" not in {choice["_value"] for key, choice in choices.items() if "_p" in key}
        assert extract(model, choices)(x).shape == (4, 5)


def _indices(mask: torch.Tensor) -> object:
    found = np.flatnonzero(mask.numpy()).tolist()
    return found if len(found) > 1 else found[0]
