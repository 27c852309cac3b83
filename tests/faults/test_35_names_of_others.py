"""Fault 35: names that NNI's and PaddleSlim's users know; they work, or a message says what does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mutators import ChoiceError, InputChoice, LayerChoice, MutableScope, Mutator, RandomMutator
from mutators.elastic import OFA, RunConfig, convert, export_onnx
from mutators.elastic.conversion.paddle import Convert, supernet
from mutators.pruning import GMPUnstructuredPruner, UnstructuredPruner
from search_spaces.errors import ProblemsError


class Cell(MutableScope):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.op = LayerChoice([nn.Linear(2, 2), nn.Identity()], key=f"{key}_op")
        self.pick = InputChoice(n_candidates=2, n_chosen=1, key="shared")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pick([self.op(x), x])
        return out


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([Cell("one"), Cell("two")])
        self.last = LayerChoice([nn.Sequential(LayerChoice([nn.Linear(2, 2)])), nn.Identity()])

    def forward(self, x: Tensor) -> Tensor:
        for cell in self.cells:
            x = cell(x)
        out: Tensor = self.last(x)
        return out


def test_mutables_are_a_tree_to_traverse() -> None:
    mutator = RandomMutator(Net())
    tree = mutator.mutables
    keys = [mutable.key for mutable in tree.traverse()]
    assert keys == ["one", "one_op", "shared", "two", "two_op", "last", "last.0.0"] == [m.key for m in tree]
    assert [m.key for m in tree.traverse(order="post")] == [
        "one_op",
        "shared",
        "one",
        "two_op",
        "two",
        "last.0.0",
        "last",
    ]
    assert [m.key for m in tree.traverse(deduplicate=False)].count("shared") == 2
    assert list(tree.traverse(deduplicate=False)) == mutator.undedup_mutables
    assert tree.mutable is None and [child.mutable.key for child in tree.children] == ["one", "two", "last"]
    assert tree.children[0].type() is Cell and [m.key for m in tree.children[2]] == ["last", "last.0.0"]
    assert tree[1] is tree.children[0].children[0].mutable and len(tree) == 7
    with pytest.raises(ValueError, match="'pre' or 'post'"):
        list(tree.traverse(order="in"))  # type: ignore[arg-type]
    root = LayerChoice([nn.Sequential(LayerChoice([nn.Identity()], key="inner"))], key="root")
    (node,) = RandomMutator(root).mutables.children
    assert node.mutable is root and [child.mutable.key for child in node.children] == ["inner"]


def test_the_name_of_a_mutable_is_its_path() -> None:
    net = Net()
    with pytest.raises(ChoiceError, match="path in the model"):
        _ = net.last.name
    assert net.cells[0].op.name == "one_op"  # not known yet: the key
    mutator = RandomMutator(net)
    names = [m.name for m in mutator.undedup_mutables]
    assert names[:3] == ["cells.0", "cells.0.op", "cells.0.pick"] and names[-1] == "last.candidates.0.0"
    assert all(net.get_submodule(name) is m for name, m in zip(names, mutator.undedup_mutables, strict=True))


def test_a_scope_may_have_a_name_of_its_own() -> None:
    class Named(Cell):
        def __init__(self) -> None:
            super().__init__("key")
            self.name = "mine"

    cell = Named()
    RandomMutator(nn.Sequential(cell)).release()
    assert cell.name == "mine"


def test_the_status_of_a_mutator() -> None:
    class Half(Mutator):
        def sample_search(self) -> Mapping[str, Tensor]:
            return {"a": torch.tensor([0.25, 0.75], requires_grad=True), "b": torch.tensor([True, False])}

    layers = [LayerChoice([nn.Identity(), nn.Tanh()], key=key) for key in "ab"]
    mutator = Half(nn.Sequential(*layers))
    assert mutator.status() == {}
    mutator.reset()
    assert mutator.status() == {"a": [0.25, 0.75], "b": [1.0, 0.0]}


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RunConfig(skip_layers=["0"]), "skip_layers: the supernet is made by convert"),
        (lambda: RunConfig(ofa_layers={"0": {}}), "ofa_layers: .*convert"),
        (lambda: RunConfig(same_search_space=[["0", "2"]]), "same_search_space: .*convert"),
        (lambda: RunConfig(init_learning_rate=[[0.1]]), "init_learning_rate: .*optimizer"),
        (lambda: RunConfig(skip_layers=[], init_learning_rate=[]), r"2 wrong"),
        (lambda: GMPUnstructuredPruner(network(), threshold=0.1), "threshold: .*UnstructuredPruner"),
        (lambda: GMPUnstructuredPruner(network(), mode="threshold"), "mode: .*UnstructuredPruner"),
        (lambda: GMPUnstructuredPruner(network(), skip_params=["0.weight"]), "skip_params: .*skip_params_func"),
        (lambda: UnstructuredPruner(network(), skip_params=["0.weight"]), "skip_params: .*skip_params_func"),
    ],
)
def test_a_message_says_where_an_argument_belongs(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ProblemsError, match=said):
        make()


def test_paddleslims_arguments_where_they_belong() -> None:
    net = convert(network(), expand_ratio=(0.5, 1.0), input_shape=(1, 3, 8, 8), skip_layers=["0"])
    assert OFA(net).space.keys == ("2.expand_ratio",)
    again = Convert(supernet(kernel_size=(3, 5))).convert(network(), input_shape=(1, 3, 8, 8), skip_layers=["0"])
    assert OFA(again).space.keys == ("2.kernel_size",)


class TakesADict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor, more: Mapping[str, Tensor]) -> Tensor:
        out: Tensor = self.last(self.first(x)) + more["data"]
        return out


def test_inputs_that_are_dicts() -> None:
    images = torch.rand(2, 3, 8, 8)
    ofa = OFA(convert(TakesADict(), expand_ratio=(0.5, 1.0), example=(images, {"data": images})))
    shapes = [[1, 3, 8, 8], {"data": [1, 3, 8, 8]}]
    small = ofa.export({"first": {"expand_ratio": 0.5}}, input_shapes=shapes, input_dtypes=["float32", "float32"])
    assert small.first.out_channels == 4 and small(images, {"data": images}).shape == images.shape
    with pytest.raises(ProblemsError, match="input_shapes are"):
        ofa.export(input_shapes=[[1, 3, 8, 8], {"data": []}])
    with pytest.raises(ProblemsError, match=r"cannot become an input of ONNX|ONNX needs"):
        export_onnx(small, "never.onnx", shapes)


def test_what_a_pruner_tells() -> None:
    torch.manual_seed(0)
    net = network()
    pruner = UnstructuredPruner(net, ratio=0.5, prune_params_type="conv1x1_only")
    assert pruner.skip_params == {"0.weight", "0.bias", "2.weight", "2.bias", "4.bias"}
    weights = net[4].weight.detach().abs().flatten().sort().values
    pruner.step()
    assert pruner.threshold == float(weights[len(weights) // 2])
    assert UnstructuredPruner(network(), "threshold", threshold=0.25).threshold == 0.25
    every = GMPUnstructuredPruner(network(), 0.5, skip_params_func=lambda model: {"0.weight"})
    assert "0.weight" in every.skip_params and "2.weight" not in every.skip_params and every.threshold > 0
