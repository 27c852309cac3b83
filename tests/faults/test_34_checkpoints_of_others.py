"""Fault 34: supernets' weights of NNI 1.9, and mutable_cfg files of MMRazor's ShuffleNetV2."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import search_spaces
from mutators import ChoiceError, InputChoice, LayerChoice, extract
from mutators.mmrazor import OneShotMutator, load_mutable_cfg
from search_spaces.nets.shufflenet_v2 import ShuffleStage


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = LayerChoice([nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))])
        self.skip = InputChoice(n_candidates=2)
        self.b = LayerChoice(OrderedDict(candidates=nn.Linear(4, 2), choices=nn.Linear(4, 2), other=nn.Linear(4, 2)))
        self.nested = LayerChoice({"in": nn.Sequential(LayerChoice([nn.Linear(2, 2)])), "out": nn.Identity()})

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.nested(self.b(self.a(x)))
        return out


def build() -> nn.Module:
    return Net()


CHOICES = {"a": {"_idx": 1}, "skip": {"_idx": [0]}, "b": {"_idx": 0}, "nested": {"_idx": 0}, "nested.in.0": {"_idx": 0}}


def of_nni(state: dict[str, Tensor], container: str = "") -> dict[str, Tensor]:
    """As NNI 1.9 names them, whose choices hold their candidates themselves; MMRazor 0.3 has a container."""
    return {
        name.replace(".candidates.", f".{container}", 1)
        if "nested" not in name
        else name.replace(".candidates.", f".{container}"): value
        for name, value in state.items()
    }


@pytest.mark.parametrize("container", ["", "choices."], ids=["NNI", "MMRazor"])
@pytest.mark.parametrize("parallel", [False, True])
def test_their_weights_load_by_name(container: str, parallel: bool) -> None:
    trained = Net()
    state = of_nni(trained.state_dict(), container)
    assert f"a.{container}0.weight" in state and f"nested.{container}in.0.{container}0.weight" in state
    net: nn.Module = nn.DataParallel(Net()) if parallel else Net()
    loaded = {f"module.{name}": value for name, value in state.items()} if parallel else state
    before = list(loaded)
    net.load_state_dict(loaded)
    inner = net.module if isinstance(net, nn.DataParallel) else net
    for name, value in trained.state_dict().items():
        assert torch.equal(inner.state_dict()[name], value)
    assert list(loaded) == before  # the caller's dict stays
    x = torch.rand(3, 4)
    assert torch.equal(extract(inner, CHOICES).eval()(x), extract(trained, CHOICES).eval()(x))


def test_our_own_names_still_load_also_into_copies() -> None:
    trained = Net()
    for net in (Net(), copy.deepcopy(Net()), pickle.loads(pickle.dumps(Net()))):  # noqa: S301
        for state in (trained.state_dict(), of_nni(trained.state_dict())):
            net.load_state_dict(state)
            assert torch.equal(net.b[0].weight, trained.b[0].weight)


def test_what_is_missing_or_left_over_is_still_an_error() -> None:
    state = of_nni(Net().state_dict())
    missing = {name: value for name, value in state.items() if name != "a.0.weight"}
    with pytest.raises(RuntimeError, match=r'Missing key.*"a.candidates.0.weight"'):
        Net().load_state_dict(missing)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"a.7.weight"'):
        Net().load_state_dict({**state, "a.7.weight": torch.zeros(1)})
    net = Net()
    left = net.load_state_dict({"a.0.weight": torch.ones(4, 4)}, strict=False)
    assert "a.candidates.0.weight" not in left.missing_keys and not left.unexpected_keys
    assert bool((net.a[0].weight == 1).all())


TWO = {"variant": "mmrazor", "strides": (1, 1, 2), "stages": (ShuffleStage(32, 2), ShuffleStage(64, 1))}
WANTED = {"stage1.block0": "7x7", "stage1.block1": "xception", "stage2.block0": "5x5"}
FILES = {
    "MMRazor 0.3": "stage_0_block_0:\n  chosen:\n  - shuffle_7x7\n"
    "stage_0_block_1:\n  chosen: [shuffle_xception]\nstage_1_block_0:\n  chosen: [shuffle_5x5]\n",
    "by name": "stage_0_block_0: ShuffleBlock_7x7\n"
    "stage_0_block_1: ShuffleBlock_xception\nstage_1_block_0: ShuffleBlock_5x5\n",
    "MMRazor 1.0": "modules:\n  backbone.layers.0.0: shuffle_7x7\n  backbone.layers.0.1: shuffle_xception\n"
    "  backbone.layers.1.0: shuffle_5x5\nchannels:\n",
    "ours": "stage1.block0: 7x7\nstage1.block1: {chosen: [xception]}\nstage2.block0: 5x5\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_mutable_cfg_of_mmrazors_shufflenet(name: str, tmp_path: Path) -> None:
    file = tmp_path / "subnet.yaml"
    file.write_text(FILES[name])
    model, mutator = search_spaces.build("shufflenet_v2", **TWO), OneShotMutator()
    mutator.prepare_from_supernet(model)
    mutator.set_subnet(load_mutable_cfg(file))
    chosen = {m.key: m.names[m.chosen[0]] for m in model.modules() if isinstance(m, LayerChoice)}
    assert chosen == WANTED
    network = mutator.deploy_subnet(model, load_mutable_cfg(file))
    assert not any(isinstance(module, LayerChoice) for module in network.modules())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "stage_0_block_0: shuffle_9x9\nstage_0_block_1: shuffle_3x3\nstage_1_block_0: shuffle_3x3\n",
            "'shuffle_9x9' is not in",
        ),
        ("stage_0_block_0: shuffle_3x3\nstage_7_block_1: shuffle_3x3\n", "unknown 'stage_7_block_1'"),
        ("modules: {backbone.layers.0.0: shuffle_3x3}\nchannels: {backbone.conv1: 3}\n", "mutators.elastic"),
    ],
)
def test_what_does_not_fit_is_named(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "subnet.yaml"
    file.write_text(text)
    mutator = OneShotMutator()
    mutator.prepare_from_supernet(search_spaces.build("shufflenet_v2", **TWO))
    with pytest.raises(ChoiceError) as caught:
        mutator.set_subnet(load_mutable_cfg(file))
    assert said in str(caught.value)
