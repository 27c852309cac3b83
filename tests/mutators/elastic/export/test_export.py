"""Exported networks: plain, equal to the supernet, and independent of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mutators.choices.value_choice import ValueChoice
from mutators.elastic import OFA, ElasticError, RunConfig, convert, export_onnx
from mutators.elastic.layers import ElasticConv2d, ElasticDepth, ElasticLinear, Width
from mutators.elastic.layers.layer import Elastic
from mutators.elastic.search.journal import digest_of
from mutators.elastic.search.results import ScoredSubnet, SearchResult
from mutators.subnet.folder import load_subnet, save_subnet
from tests.mutators.elastic import models, nets
from tests.mutators.elastic.training import shrinking as toy

ALL: dict[str, Any] = {"kernel_size": (3, 5, 7), "expand_ratio": (0.5, 0.75, 1.0)}
DEPTHS: dict[str, Any] = {"resnet": (1, 2, 3), "mobilenet_v2": (0.5, 1.0)}


def same(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    for ours, theirs in zip(*(out if isinstance(out, tuple) else (out,) for out in (a, b)), strict=True):
        assert ours.shape == theirs.shape
        assert ((ours - theirs).abs() <= tolerance * theirs.abs().clamp(min=1)).all()


def drawn(ofa: OFA, n: int) -> list[Any]:
    return [ofa.space.decode(row) for row in ofa.space.sample_tokens(np.random.default_rng(0), n).tolist()]


@pytest.mark.parametrize(
    "name", ["toy", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ofa_mobilenet_v3", "ofa_resnet50"))]
)
def test_fifty_networks_equal_the_supernet_and_leave_it_alone(name: str) -> None:
    ofa = OFA(models.lively(toy.Net()) if name == "toy" else nets.small(name))
    x = torch.randn(2, 1, 6, 6) if name == "toy" else torch.randn(2, 3, 32, 32)
    before, config, training = digest_of(ofa.model), ofa.current_config, ofa.model.training
    state = torch.random.get_rng_state()
    networks = [ofa.export(choices, input_shapes=tuple(x.shape[1:])) for choices in drawn(ofa, 50)]
    assert torch.equal(state, torch.random.get_rng_state())
    assert (digest_of(ofa.model), ofa.current_config, ofa.model.training) == (before, config, training)
    ofa.eval()
    with torch.no_grad():
        for choices, plain in zip(drawn(ofa, 50), networks, strict=True):
            assert not plain.training and not any(isinstance(module, Elastic) for module in plain.modules())
            ofa.set_net_config(choices)
            same(plain(x), ofa(x))
            for parameter in plain.parameters():
                parameter += 1  # its own
    assert digest_of(ofa.model) == before


@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_the_origin_models_class_and_its_weights(name: str) -> None:
    build, example = models.MODELS[name]
    torch.manual_seed(0)
    origin = models.lively(build()).eval()
    ofa, x = OFA(convert(origin, **ALL, depth=DEPTHS.get(name))).eval(), example()
    reference = {key: tensor.clone() for key, tensor in origin.state_dict().items()}
    with torch.no_grad():
        for parameter in ofa.model.parameters():
            parameter += 0.1 * torch.rand(parameter.shape)  # as after training
    shapes: dict[str, Any] = {"input_shapes": list(x.shape), "input_dtypes": [x.dtype]}
    for choices in drawn(ofa, 5):
        plain = ofa.export(choices, origin, **shapes)
        assert type(plain) is type(origin) and not any(isinstance(module, Elastic) for module in plain.modules())
        ofa.set_net_config(choices)
        with torch.no_grad():
            same(plain(x), ofa(x))
        ofa.export(choices, origin, load_weights_from_supernet=False, **shapes)  # compares
    largest = ofa.export({}, origin, load_weights_from_supernet=False, **shapes)
    with torch.no_grad():
        same(largest(x), origin(x))
    assert all(torch.equal(tensor, reference[key]) for key, tensor in origin.state_dict().items())


def test_origin_weights_are_cut() -> None:
    origin = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.Conv2d(4, 2, 1))
    width = Width.of(ValueChoice((2, 4)), (2, 4))
    layers = [ElasticConv2d.of(origin[0], 1, width, (3, 5)), ElasticConv2d.of(origin[1], width, 2)]
    layers[0].add_module("width", width.choices[0])
    ofa = OFA(nn.Sequential(*layers))
    with torch.no_grad():
        for parameter in ofa.parameters():
            parameter.copy_(torch.rand_like(parameter))
    given = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.Conv2d(4, 2, 1))
    plain = ofa.export({"0.kernel_size": 3, "0.width": 2}, given, load_weights_from_supernet=False)
    assert torch.equal(plain[0].weight, given[0].weight[:2, :, 1:4, 1:4]) and plain[0].padding == (1, 1)
    assert torch.equal(plain[1].weight, given[1].weight[:, :2])


class Exits(nn.Module):
    """Looks after its depth itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.head = ElasticLinear(4, (2, 3))

    def forward(self, x: torch.Tensor, depth: float) -> torch.Tensor:
        for layer in self.layers[: int(depth)]:
            x = torch.relu(layer(x))
        out: torch.Tensor = self.head(x)
        return out


def test_a_depth_that_forward_takes_need_not_be_given(tmp_path: Path) -> None:
    origin = Exits()
    ofa, x = OFA(Exits(), RunConfig(elastic_depth=(1, 2, 3))).eval(), torch.randn(2, 4)
    for depth in (1, 2, 3):
        choices = ofa.choices_of({"depth": depth, "head.channel": 2})
        for plain in (ofa.export(choices, input_shapes=(4,)), ofa.export(choices, origin, (4,))):
            with torch.no_grad():
                ofa.set_net_config(choices)
                same(plain(x), ofa(x))
                assert plain(x).shape == (2, 2)
    save_subnet(tmp_path, plain, choices)
    same(load_subnet(tmp_path, ofa.export(choices, origin))(x), plain(x), 0)


class Aside(Exits):
    """One that reckons by the number of its layers, and has an exit for the training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.aside = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, depth: float) -> torch.Tensor:
        for layer in self.layers[: round(depth * len(self.layers))]:
            x = torch.relu(layer(x))
        out: torch.Tensor = self.head(x)
        return out + self.aside(x).sum() if self.training else out


def test_blocks_beyond_a_depth_that_forward_takes() -> None:
    ofa, x = OFA(Aside(), RunConfig(elastic_depth=(0.33, 0.67, 1.0))).eval(), torch.randn(2, 4)
    choices = ofa.choices_of({"depth": 0.33})
    kept = {name.split(".weight")[0] for name in ofa.export(choices).state_dict() if name.endswith("weight")}
    assert kept == {"net.layers.0", "net.layers.1", "net.layers.2", "net.head", "net.aside"}
    for options in ({}, {"origin_model": Aside()}):
        plain = ofa.export(choices, input_shapes=(4,), **options)
        left = {name.split(".weight")[0] for name in plain.state_dict() if name.endswith("weight")}
        assert left == {"net.layers.0", "net.head", "net.aside"} and len(plain.net.layers) == 3
        ofa.set_net_config(choices)
        with torch.no_grad():
            same(plain(x), ofa(x))
    assert len(ofa.model.state_dict()) == 10


class Padded(nn.Module):
    """An encoder whose embedding may be cut, too, with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 24, batch_first=True), 2)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.encoder(self.embedding(tokens), src_key_padding_mask=tokens == 0)
        out: torch.Tensor = self.head(x.mean(1))
        return out


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_the_origin_models_attention_is_replaced_as_a_whole() -> None:
    torch.manual_seed(0)
    origin = Padded().eval()
    x = torch.randint(1, 20, (3, 8))
    x[0, 5:] = 0
    ofa = OFA(convert(origin, example=x, expand_ratio=(0.5, 1.0))).eval()
    assert "embedding.expand_ratio" in ofa.space.keys
    for choices in (*drawn(ofa, 8), ofa.choices_of({}), ofa.choices_of({"embedding.expand_ratio": 0.5})):
        plain = ofa.export(choices, origin, input_shapes=(8,), input_dtypes=["int64"])
        assert type(plain) is Padded and type(plain.encoder) is nn.TransformerEncoder
        ofa.set_net_config(choices)
        with torch.no_grad():  # where torch's encoders compute by themselves, unless they are kept from it
            same(plain(x), ofa(x))


def test_what_is_exported() -> None:
    ofa = OFA(toy.Net())
    choices = ofa.choices_of({"stage.depth": 1, "stage.0.expand_ratio": 2, "stage.0.depthwise.kernel_size": 1})
    shapes = {name: tuple(tensor.shape) for name, tensor in ofa.export(choices).state_dict().items()}
    assert shapes["stage.0.depthwise.weight"] == (8, 1, 1, 1) and shapes["stage.0.norm.running_mean"] == (8,)
    assert not any(name.startswith("stage.1") or "matrix" in name for name in shapes)
    subnet = ScoredSubnet(choices, 0.5, {})
    by_config = {"ks": [1, 5, 5], "e": [2, 3, 3], "d": 1}
    ofa.set_net_config(choices)
    for config in (subnet, SearchResult(subnet, (subnet,)), by_config, None, {"stage": {"depth": 1}}):
        other = ofa.export(config)
        if isinstance(config, dict) and "stage" in config:
            assert other.stage[0].up.out_channels == 12  # what is not named is at its largest
        else:
            assert {name: tuple(tensor.shape) for name, tensor in other.state_dict().items()} == shapes


def test_calibration_is_the_exported_networks_own() -> None:
    ofa, batches = OFA(toy.Net()), toy.batches(4)
    before = digest_of(ofa.model)
    plain = ofa.export({"stage.depth": 1}, calibration=batches)
    with torch.no_grad():
        images = torch.cat([x for x, _ in batches])
        into = plain.stage[0].depthwise(plain.stage[0].up(torch.relu(plain.stem(images))))
    torch.testing.assert_close(plain.stage[0].norm.running_mean, into.mean((0, 2, 3)))
    torch.testing.assert_close(plain.stage[0].norm.running_var, into.var((0, 2, 3), correction=0))
    assert digest_of(ofa.model) == before
    two = ofa.export({"stage.depth": 1}, calibration=batches, calibration_batches=2)
    alike = ofa.export({"stage.depth": 1}, calibration=batches[:2])
    assert torch.equal(two.stage[0].norm.running_mean, alike.stage[0].norm.running_mean)
    assert not torch.equal(two.stage[0].norm.running_mean, plain.stage[0].norm.running_mean)


@pytest.mark.parametrize("with_factory", [False, True])
def test_saved_and_loaded(tmp_path: Path, with_factory: bool) -> None:
    ofa, x = OFA(models.lively(toy.Net())), torch.randn(2, 1, 6, 6)
    choices = drawn(ofa, 1)[0]
    plain = ofa.export(choices)
    save_subnet(tmp_path, plain, choices, factory=toy.Net if with_factory else None)
    loaded = load_subnet(tmp_path, toy.Net if with_factory else ofa.model)
    same(loaded(x), plain(x), 0)
    other = ofa.export(choices)
    other.load_state_dict(plain.state_dict())


class Moody(nn.Module):
    """Depends on more than its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = ElasticLinear(4, (2, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x) + isinstance(self.layer, Elastic)
        return out


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (toy.Net(), {"config": {"stage.9.kernel_size": 3}}, "no key of this network"),
        (toy.Net(), {"config": {"stage.depth": 9}}, "9 is not on offer"),
        (toy.Net(), {"config": 3}, "configuration is 3"),
        (toy.Net(), {"input_shapes": (3, 6, 6)}, "cannot be run on 1x3x6x6 or 3x6x6"),
        (toy.Net(), {"input_shapes": (0, 6)}, "input_shapes are"),
        (toy.Net(), {"input_shapes": [[1, 6, 6], "x"]}, "input_shapes are"),
        (toy.Net(), {"input_shapes": (1, 6, 6), "input_dtypes": ["float33"]}, "float33"),
        (toy.Net(), {"input_shapes": (1, 6, 6), "input_dtypes": ["int64", "int64"]}, "1 input_shapes and 2"),
        (toy.Net(), {"input_dtypes": ["int64"]}, "give these"),
        (toy.Net(), {"load_weights_from_supernet": False}, "give origin_model"),
        (toy.Net(), {"origin_model": nn.Linear(2, 2)}, "not what this supernet was made of"),
        (
            toy.Net(),
            {"origin_model": nn.Linear(2, 2), "load_weights_from_supernet": False},
            "not what this supernet was made of",
        ),
        (toy.Net(), {"calibration": []}, "cannot be calibrated.*0 batches"),
        (Moody(), {"input_shapes": (4,)}, "differs from the supernet.* by up to 1"),
    ],
)
def test_bad_input(net: nn.Module, options: dict[str, Any], message: str) -> None:
    ofa = OFA(net)
    before = digest_of(ofa.model)
    with pytest.raises(ElasticError, match=message):
        ofa.export(**options)
    assert digest_of(ofa.model) == before


ONNX = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs the extra [onnx]",
)


@ONNX
@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["toy", "ofa_mobilenet_v3", "ofa_resnet50", "transformer"])
def test_onnx_computes_the_same(name: str, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    dtypes: Any = None
    if name == "transformer":
        net: nn.Module = convert(models.lively(models.Transformer()), **ALL)
        shape, dtypes = [12], ["int64"]
    else:
        net = models.lively(toy.Net()) if name == "toy" else nets.small(name)
        shape = [1, 6, 6] if name == "toy" else [3, 32, 32]
    ofa = OFA(net)
    plain = ofa.export(drawn(ofa, 1)[0])
    path = tmp_path / "folder" / "net.onnx"
    assert export_onnx(plain, path, shape, dtypes) < 1e-4
    assert onnx.load(path).opset_import[0].version == 18
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    x = torch.randint(2, (3, 12)) if dtypes else torch.randn(3, *shape)  # another batch than at the export
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        same(torch.from_numpy(got), plain(x))
    with pytest.raises(ElasticError, match="differs by up to"):
        export_onnx(plain, tmp_path / "never.onnx", shape, dtypes, tolerance=-1.0)
    assert not (tmp_path / "never.onnx").exists()


@ONNX
@pytest.mark.slow
def test_onnx_of_a_depth_that_forward_takes(tmp_path: Path) -> None:
    ofa = OFA(Aside(), RunConfig(elastic_depth=(0.33, 1.0)))
    assert export_onnx(ofa.export({"depth": 0.33}, input_shapes=(4,)), tmp_path / "net.onnx", (4,)) < 1e-5


class Stubborn(nn.Module):
    """Cannot be translated, since it looks at its numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x


@ONNX
@pytest.mark.slow
def test_why_it_cannot_be_onnx(tmp_path: Path) -> None:
    with pytest.raises(ElasticError, match=r"Stubborn to ONNX: .*data-dependent") as caught:
        export_onnx(Stubborn(), tmp_path / "net.onnx", (4,))
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)


def test_without_the_extra_onnx_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ElasticError, match=r"pip install 'nas-tuners\[onnx\]'"):
        export_onnx(nn.Linear(2, 2), tmp_path / "net.onnx", (2,))


def test_an_empty_stage_is_an_empty_sequence() -> None:
    net = nn.Sequential(ElasticDepth([nn.Linear(3, 3)], (0, 1), counts=(0, 1)))
    plain = OFA(net).export({"0.depth": 0}, input_shapes=(3,))
    assert isinstance(plain[0], nn.Sequential) and len(plain[0]) == 0
