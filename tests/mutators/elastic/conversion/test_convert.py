"""Conversion: what becomes elastic, and that the largest and every extracted network compute what they should."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mutators import RandomMutator, apply_choices, extract, search_space_of
from mutators.elastic import ElasticError, conversion_of, convert
from mutators.elastic.conversion.paddle import Convert, supernet
from mutators.elastic.layers import Channels
from mutators.elastic.layers.layer import Elastic
from mutators.oneshot import TrainConfig, train_supernet
from search_spaces import Space
from tests.mutators.elastic.models import MODELS, ConcatNet, ResNet, TwoExits, lively

ALL = {"kernel_size": (3, 5, 7), "expand_ratio": (0.5, 0.75, 1.0)}
DEPTHS: dict[str, Any] = {"resnet": (1, 2, 3), "mobilenet_v2": (0.5, 1.0)}


def outputs(net: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    out = net(x)
    return out if isinstance(out, tuple) else (out,)


@functools.cache
def converted(name: str) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    build, example = MODELS[name]
    torch.manual_seed(0)
    model = lively(build())
    return model, convert(model, **ALL, depth=DEPTHS.get(name)), example()


@pytest.fixture(params=list(MODELS))
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """A model, its supernet, and an input."""
    return copy.deepcopy(converted(request.param))


def test_the_largest_is_the_model(pair: tuple[nn.Module, nn.Module, torch.Tensor]) -> None:
    model, net, x = pair
    for mode in (False, True):
        for module in (model.train(mode), net.train(mode)):
            for part in module.modules():
                if isinstance(part, (nn.Dropout, nn.TransformerEncoderLayer)):
                    part.eval()  # what it drops is drawn
        for got, wanted in zip(outputs(net, x), outputs(model, x), strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
def test_fifty_networks_compute_what_the_supernet_does(pair: tuple[nn.Module, nn.Module, torch.Tensor]) -> None:
    net, x = pair[1].eval(), pair[2]
    space = Space.from_json(search_space_of(net))
    with torch.no_grad():
        for tokens in space.sample_tokens(np.random.default_rng(0), 50).tolist():
            choices = space.decode(tuple(tokens))
            apply_choices(net, choices)
            plain = extract(net, choices)
            for got, wanted in zip(outputs(plain, x), outputs(net, x), strict=True):
                assert ((got - wanted).abs() <= 1e-5 * wanted.abs().clamp(min=1)).all()
            assert not any(isinstance(module, Elastic) for module in plain.modules())
            assert plain._conversion is None


def test_copies_mutators_and_state_dicts(pair: tuple[nn.Module, nn.Module, torch.Tensor]) -> None:
    model, net, x = pair
    twin = copy.deepcopy(net).eval()
    assert str(conversion_of(twin)) == str(conversion_of(net))
    assert set(model.state_dict()) <= set(net.state_dict())
    state = {name: tensor.clone() for name, tensor in lively(copy.deepcopy(net)).state_dict().items()}
    net.load_state_dict(state)
    mutator = RandomMutator(net.eval(), seed=1)
    mutator.reset()
    changed = outputs(net, x)
    mutator.release()
    torch.testing.assert_close(outputs(twin, x), outputs(model.eval(), x), atol=1e-6, rtol=1e-6)
    assert not all(torch.equal(a, b) for a, b in zip(changed, outputs(twin, x), strict=True))


def test_every_elastic_layer_knows_its_layouts(pair: tuple[nn.Module, nn.Module, torch.Tensor]) -> None:
    for module in pair[1].modules():
        if isinstance(module, Elastic):
            names = [n for n in ("inputs", "outputs", "channels", "embed")]
            layouts = [getattr(module, name) for name in names if hasattr(module, name)]
            assert all(isinstance(layout, Channels) for layout in layouts)


def test_the_model_stays_as_it_was() -> None:
    model = ResNet().train()
    before, kinds = copy.deepcopy(model.state_dict()), [type(module) for module in model.modules()]
    generator = torch.get_rng_state()
    convert(model, **ALL, depth=(2, 3))
    assert torch.equal(torch.get_rng_state(), generator)
    assert [type(module) for module in model.modules()] == kinds
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_what_a_forward_changes_is_put_back() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return self.last(self.first(x.relu_()))

    x = -torch.ones(2, 3, 4, 4)
    model = Counting()
    model.last.eval()
    net = convert(model, expand_ratio=(0.5, 1.0), example=x)
    assert x.eq(-1).all()
    assert model.calls == net.calls == 0
    assert not net.last.training
    assert net.first.training


def test_the_space_of_a_resnet() -> None:
    net = convert(ResNet(), kernel_size=(3, 5), expand_ratio=(0.5, 1.0), depth=(2, 3))
    blocks = [f"layer{i}.{j}" for i in (1, 2) for j in range(3)]
    convs = ["conv1", *[f"{block}.conv{k}" for block in blocks for k in (1, 2)]]
    widths = ["conv1", *[f"{block}.conv1" for block in blocks], "layer2.0.conv2"]
    space = {key: tuple(entry["_value"]) for key, entry in search_space_of(net).items()}
    assert space == {
        **{f"{conv}.kernel_size": ("3", "5") for conv in convs},
        **{f"{conv}.expand_ratio": ("0.5", "1.0") for conv in widths},
        "layer1.depth": ("2", "3"),
        "layer2.depth": ("2", "3"),
    }


def sub_network(net: nn.Module, **wanted: str) -> nn.Module:
    """The plain network of named choices, and the largest of all others; "." is written "__"."""
    space = Space.from_json(search_space_of(net))
    named = {key.replace("__", "."): value for key, value in wanted.items()}
    tokens = []
    for key, entry in search_space_of(net).items():
        options = entry["_value"]
        tokens.append(options.index(named.pop(key)) if key in named else len(options) - 1)
    assert not named
    return extract(net, space.decode(tuple(tokens)))


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_nothing_that_is_not_used_is_left_in_a_network_with_concatenations() -> None:
    net = convert(ConcatNet(), **ALL)
    wanted = {"stem__expand_ratio": "0.5", "left__expand_ratio": "0.5", "right__expand_ratio": "0.75"}
    wanted |= {"mix__expand_ratio": "0.5", "fc1__expand_ratio": "0.75"}
    kernels = {"stem__kernel_size": "3", "right__kernel_size": "5", "mix__kernel_size": "3"}
    stem, left, right, mix, fc1 = 4, 3, 7, 6, 15
    expected = (3 * 9 + 1) * stem + (stem + 1) * left + (stem * 25 + 1) * right + 2 * (left + right)
    expected += ((left + right + stem) * 9 + 1) * mix + (mix * 16 + 1) * fc1 + (fc1 + 1) * 5
    assert parameters(sub_network(net, **wanted, **kernels)) == expected


def test_nothing_that_is_not_used_is_left_in_a_resnet() -> None:
    net = convert(ResNet(), **ALL, depth=(1, 2, 3))
    kernels = {key.replace(".", "__"): "3" for key in search_space_of(net) if key.endswith("kernel_size")}
    halves = {key.replace(".", "__"): "0.5" for key in search_space_of(net) if key.endswith("expand_ratio")}
    plain = sub_network(net, **kernels, **halves, layer1__depth="1", layer2__depth="2")
    block = 2 * 9 * 4 * 4 + 4 * 4
    first = 9 * 4 * 8 + 9 * 8 * 8 + 4 * 8 + 4 * 8 + 2 * 8
    second = 2 * 9 * 8 * 8 + 4 * 8
    assert parameters(plain) == 3 * 9 * 4 + 2 * 4 + block + first + second + (8 + 1) * 5


def test_every_output_of_two_exits_keeps_its_size() -> None:
    net = convert(TwoExits(), **ALL)
    rows = conversion_of(net)
    assert rows["early"].why_not == rows["fc"].why_not == {"width": "it is the model's output"}
    assert "late.0.0.expand_ratio" in search_space_of(net)


def test_an_encoder_has_elastic_heads_and_inner_widths_in_evaluation_too() -> None:
    build, example = MODELS["transformer"]
    net = convert(build(), expand_ratio=(0.25, 0.5, 1.0)).eval()
    heads = {f"encoder.layers.{i}.self_attn.expand_ratio": ("0.25", "0.5", "1.0") for i in (0, 1)}
    inner = {f"encoder.layers.{i}.linear1.expand_ratio": ("0.25", "0.5", "1.0") for i in (0, 1)}
    assert {key: tuple(entry["_value"]) for key, entry in search_space_of(net).items()} == {**heads, **inner}
    x = example()
    with torch.inference_mode():
        full = net(x)
        for name in (*heads, *inner):
            layer = net.get_submodule(name.rpartition(".")[0])
            layer.set_config(expand_ratio=0.25)
            assert not torch.allclose(net(x), full)
            layer.set_config(expand_ratio=1.0)


def test_heads_by_number() -> None:
    build, example = MODELS["transformer"]
    net = convert(build(), ofa_layers={"encoder.layers.1.self_attn": {"heads": (1, 3)}}).eval()
    assert search_space_of(net) == {
        "encoder.layers.1.self_attn.heads": {"_type": "layer_choice", "_value": ["1", "3", "4"]}
    }
    plain = sub_network(net, encoder__layers__1__self_attn__heads="3")
    assert plain.encoder.layers[1].self_attn.out_proj.weight.shape == (16, 12)  # type: ignore[index, union-attr]
    assert isinstance(plain.encoder.layers[0].self_attn, nn.MultiheadAttention)  # type: ignore[index, union-attr]
    net.get_submodule("encoder.layers.1.self_attn").set_config(heads=3)  # type: ignore[operator]
    x = example()
    with torch.inference_mode():
        torch.testing.assert_close(plain(x), net(x), atol=1e-5, rtol=1e-5)


def test_elastic_layers_beside_a_plain_attention_are_not_bypassed() -> None:
    build, example = MODELS["transformer"]
    net = convert(build(), ofa_layers={"encoder.layers.0.linear1": {"channel": (4, 24)}}).eval()
    x = example()
    with torch.inference_mode():
        full = net(x)
        net.get_submodule("encoder.layers.0.linear1").set_config(channel=4)  # type: ignore[operator]
        assert not torch.allclose(net(x), full)


def test_a_supernet_can_be_trained() -> None:
    torch.manual_seed(0)
    net = convert(ResNet(), **ALL, depth=(2, 3))
    before = copy.deepcopy(net.state_dict())
    batches = [(torch.randn(4, 3, 8, 8), torch.randint(5, (4,))) for _ in range(3)]
    train_supernet(net, batches, TrainConfig(epochs=1), progress=False)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("name", list(MODELS))
def test_new_channels_are_silent(name: str) -> None:
    build, example = MODELS[name]
    torch.manual_seed(0)
    model, x = lively(build()).eval(), example()
    net = convert(model, kernel_size=(3, 5), expand_ratio=(1.0, 2.0))
    for got, wanted in zip(outputs(net, x), outputs(model, x), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    ratios = {key.replace(".", "__"): "1.0" for key in search_space_of(net) if "ratio" in key}
    kernels = {key.replace(".", "__"): "3" for key in search_space_of(net) if "kernel" in key}
    kernels |= {"right__kernel_size": "5"} if name == "concatenation" else {}
    small = sub_network(net, **ratios, **kernels)
    assert parameters(small) == parameters(model) < parameters(net)
    for got, wanted in zip(outputs(small, x), outputs(model, x), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_grown_channels_learn() -> None:
    net = convert(ConcatNet(), expand_ratio=(1.0, 2.0))
    outputs(net, torch.randn(2, 3, 8, 8))[0].sum().backward()
    grad = net.get_parameter("fc2.weight").grad
    assert grad is not None
    assert grad[:, 20:].ne(0).any()


def test_paddles_spelling() -> None:
    net = Convert(supernet(kernel_size=(3, 5), expand_ratio=(0.5, 1.0))).convert(ConcatNet())
    assert search_space_of(net) == search_space_of(convert(ConcatNet(), kernel_size=(3, 5), expand_ratio=(0.5, 1.0)))


def test_lists_of_channels() -> None:
    lists = [[4, 8], [2, 6], [5, 7, 10], [6, 12], [], [5]]
    net = convert(ConcatNet(), channel=lists)
    widths = {"stem": lists[0], "left": lists[1], "right": lists[2], "mix": lists[3]}
    assert search_space_of(net) == {
        f"{path}.channel": {"_type": "layer_choice", "_value": [str(n) for n in options]}
        for path, options in widths.items()
    }
    assert search_space_of(convert(ConcatNet(), channel={"mix": [4, 12]})).keys() == {"mix.channel"}


def test_what_the_model_has_is_always_on_offer() -> None:
    net = convert(ConcatNet(), kernel_size=3, expand_ratio=(0.25, 0.5))
    space = search_space_of(net)
    assert space["right.kernel_size"]["_value"] == ["3", "5"]
    assert "stem.kernel_size" not in space
    assert space["stem.expand_ratio"]["_value"] == ["0.25", "0.5", "1.0"]
    depths = search_space_of(convert(ResNet(), depth=2))
    assert {key: entry["_value"] for key, entry in depths.items()} == {
        "layer1.depth": ["2", "3"],
        "layer2.depth": ["2", "3"],
    }


def test_layers_by_name() -> None:
    net = convert(
        ResNet(),
        **ALL,
        skip_layers=["layer1.0.conv2", "layer2"],
        ofa_layers={"layer1.1.conv1": {"expand_ratio": [0.25, 1.0], "kernel_size": [1, 3]}},
        same_search_space=[["layer1.0.conv1", "layer1.2.conv1"]],
    )
    space = search_space_of(net)
    assert {key: entry["_value"] for key, entry in space.items() if "expand" in key} == {
        "layer1.0.conv1.expand_ratio": ["0.5", "0.75", "1.0"],
        "layer1.1.conv1.expand_ratio": ["0.25", "1.0"],
    }
    assert space["layer1.1.conv1.kernel_size"]["_value"] == ["1", "3"]
    assert not any(key.startswith(("layer2", "layer1.0.conv2")) for key in space)
    third = net.get_submodule("layer1.2.conv1")
    assert third.outputs.choices == (net.get_submodule("layer1.0.conv1").expand_ratio,)
    assert "skip_layers" in conversion_of(net)["conv1"].why_not["width"]


def test_a_stage_alone() -> None:
    stage = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()) for _ in range(4)))
    net = convert(stage, depth=(0.25, 0.5, 0.75, 1.0), expand_ratio=(0.5, 1.0))
    assert search_space_of(net).keys() == {"depth"}  # what goes in as four channels may go out at once
    assert len(sub_network(net, depth="0.5")) == 2


def test_the_exits_of_a_stage_have_one_width() -> None:
    blocks = [nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()) for _ in range(4)]
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(*blocks), nn.Conv2d(4, 2, 1))
    net = convert(model, depth={"1": (0.5, 0.6, 1.0)}, expand_ratio=(0.5, 1.0))
    assert {key: entry["_value"] for key, entry in search_space_of(net).items()} == {
        "0.expand_ratio": ["0.5", "1.0"],
        "1.depth": ["0.5", "1.0"],
        "1.0.0.expand_ratio": ["0.5", "1.0"],
        "1.1.0.expand_ratio": ["0.5", "1.0"],
        "1.2.0.expand_ratio": ["0.5", "1.0"],
    }
    tied = conversion_of(net)["1.3.0"].elastic["width"]
    assert tied == conversion_of(net)["1.1.0"].elastic["width"] == "2, 4 by 1.1.0.expand_ratio"
    small = sub_network(net, **{"1__depth": "0.5", "1__1__0__expand_ratio": "0.5"})
    assert small(torch.zeros(1, 3, 4, 4)).shape == (1, 2, 4, 4)


def test_one_layer_alone() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1)
    net = convert(conv, kernel_size=(3, 5))
    assert search_space_of(net).keys() == {"kernel_size"}
    only = convert(ConcatNet(), ofa_layers={"mix": {"kernel_size": (3, 5)}})
    assert search_space_of(only).keys() == {"mix.kernel_size"}


def test_the_table_names_every_layer_and_why() -> None:
    net = convert(nn.Sequential(nn.Conv2d(3, 4, 2), nn.Conv2d(4, 5, (1, 3)), nn.Conv2d(5, 6, 1)), **ALL)
    lines = str(conversion_of(net)).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[str(i), "Conv2d"] for i in range(3)]
    assert "2 x 2" in conversion_of(net)["0"].why_not["kernel_size"]
    assert "1 x 3" in conversion_of(net)["1"].why_not["kernel_size"]
    with pytest.raises(ElasticError, match="did not come from convert"):
        conversion_of(nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (ConcatNet, {"kernel_size": (3, 4)}, "odd"),
        (ConcatNet, {"kernel_size": ()}, r"kernel_size is \(\), wanted distinct numbers"),
        (ConcatNet, {"expand_ratio": (0.5, "a")}, "wanted distinct numbers above 0"),
        (ConcatNet, {"expand_ratio": (0.5, 1.0), "channel": [[1]]}, "both given"),
        (ConcatNet, {"channel": [[4, 8]]}, "channel has 1 lists, wanted 6, one for each of stem, left"),
        (ConcatNet, {**ALL, "skip_layers": ["steem"]}, r"skip_layers: 'steem' is unknown, wanted some of \['stem'\]"),
        (ConcatNet, {**ALL, "ofa_layers": {"lift": {}}}, "'lift' is unknown, wanted some of .*left"),
        (ConcatNet, {"ofa_layers": {"left": {"kernel": [3]}}}, "'kernel' is unknown, wanted some of .*kernel_size"),
        (ConcatNet, {"ofa_layers": {"fc2": {"expand_ratio": [0.5]}}}, "its width stays: it is the model's output"),
        (ConcatNet, {**ALL, "same_search_space": [["stem", "left"]]}, "only equal ones can be tied"),
        (ConcatNet, {**ALL, "same_search_space": [["stem", "nothing"]]}, "'nothing' is unknown"),
        (ConcatNet, {"depth": (2,)}, "depth 2 cannot be reached by any stage"),
        (ResNet, {"depth": (2, 4)}, "depth 4 cannot be reached by any stage"),
        (ResNet, {"depth": {"layer2": (4,)}}, "depth 4 of layer2 cannot be reached: it has 3 blocks"),
        (ResNet, {"depth": {"layer3": (2,)}}, "'layer3' is unknown, wanted some of .*layer1"),
        (ResNet, {"channel": {"conv1": [4, 8], "layer1.0.conv2": [2, 8]}}, "different candidates"),
        (ResNet, {**ALL, "example": torch.zeros(2, 4, 8, 8)}, "does not run on the example"),
        (ResNet, {**ALL, "example": 1, "input_shape": (1,)}, "both given"),
        (ResNet, {**ALL, "input_shape": (0, 3)}, "wanted sizes with the batch"),
    ],
)
def test_bad_input_says_what_is_wrong(build: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ElasticError, match=message):
        convert(build(), **arguments)


def test_a_model_with_choices_is_not_converted() -> None:
    with pytest.raises(ElasticError, match="has choices already"):
        convert(convert(ConcatNet(), **ALL), **ALL)
