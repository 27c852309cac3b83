"""What a conversion checks, says, and makes of candidates that come to the same; models of other types and devices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mutators import search_space_of
from mutators.elastic import ElasticError, conversion_of, convert
from tests.mutators.elastic.models import Net, ResNet, lively


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))


def options(net: nn.Module) -> dict[str, list[str]]:
    return {key: entry["_value"] for key, entry in search_space_of(net).items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_models_of_other_types(dtype: torch.dtype) -> None:
    net = convert(small().to(dtype), kernel_size=(1, 3, 5), expand_ratio=(0.5, 1.0, 2.0))
    assert {parameter.dtype for parameter in net.parameters()} == {dtype}
    assert "0.kernel_size" in options(net)


def test_a_model_on_another_device() -> None:
    net = convert(small().to("meta"), kernel_size=(1, 3, 5), expand_ratio=(0.5, 1.0, 2.0))
    assert {parameter.device.type for parameter in net.parameters()} == {"meta"}
    assert "0.5to3_matrix" in net.state_dict()


def scaled(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = net.a(x)
    return net.b(x * x.shape[1] ** -0.5)


def test_a_largest_network_that_is_not_the_model_is_an_error() -> None:
    model = Net(scaled, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 2, 1))
    with pytest.raises(
        ElasticError, match=r"(?s)largest sub-network does not compute.*differ by 0\.\d+, .*skip_layers"
    ):
        convert(model, expand_ratio=(1.0, 2.0), input_shape=(2, 3, 4, 4))
    assert options(convert(model, expand_ratio=(0.5, 1.0), input_shape=(2, 3, 4, 4)))
    assert not options(convert(model, expand_ratio=(1.0, 2.0), input_shape=(2, 3, 4, 4), skip_layers=["a"]))


def test_without_an_input_nothing_is_compared() -> None:
    def picky(net: Any, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] != 17:
            raise ValueError("wanted 17")
        return net.a(x)

    assert options(convert(Net(picky, a=nn.Conv2d(3, 4, 3, padding=1)), kernel_size=(3, 5)))


def test_outputs_that_are_no_numbers_are_equal() -> None:
    def divided(net: Any, x: torch.Tensor) -> torch.Tensor:
        return net.b(net.a(x)) * torch.tensor([0.0]) / 0

    assert options(convert(Net(divided, a=nn.Linear(3, 4), b=nn.Linear(4, 2)), expand_ratio=(0.5, 1.0)))


def test_ratios_in_groups_are_those_nearest_to_their_sizes() -> None:
    layers = [nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 1, groups=4), nn.GroupNorm(4, 32), nn.Conv2d(32, 4, 1)]
    net = convert(nn.Sequential(*layers), expand_ratio=(0.125, 0.25, 0.3, 0.5, 1.0))
    assert options(net)["1.expand_ratio"] == ["0.25", "0.5", "1.0"]  # 8 is the least multiple of a group of the norm
    assert "0.125, 0.3 left out" in conversion_of(net)["1"].why_not["expand_ratio"]
    assert conversion_of(net)["2"].why_not == {}


def test_depths_that_are_as_many_blocks_are_those_nearest_to_them() -> None:
    net = convert(ResNet(), depth=(0.5, 0.75, 1.0))
    assert options(net) == {"layer1.depth": ["0.75", "1.0"], "layer2.depth": ["0.75", "1.0"]}
    assert "0.5 left out" in conversion_of(net)["layer1"].why_not["depth"]


def test_ratios_above_one_where_nothing_can_grow_are_said_to_be_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    row = conversion_of(convert(model, expand_ratio=(0.5, 1.0, 2.0)))["0"]
    assert "4, 8" in row.elastic["width"]
    assert "2.0 left out: it cannot grow" in row.why_not["expand_ratio"]


@pytest.mark.parametrize("ratio", [2, [2], 1.5])
def test_a_single_ratio_above_one_enlarges(ratio: Any) -> None:
    model = lively(small()).eval()
    net = convert(model, expand_ratio=ratio)
    value = ratio[0] if isinstance(ratio, list) else ratio
    assert options(net) == {"0.expand_ratio": [str(value)]}
    assert net[0].out_channels == int(8 * value)  # type: ignore[index]
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(net(x), model(x))


def test_a_single_ratio_of_one_leaves_all_as_it_is_and_says_so() -> None:
    net = convert(small(), expand_ratio=1)
    assert options(net) == {}
    assert "no other number" in conversion_of(net)["0"].why_not["width"]


def test_everything_with_parameters_has_a_row() -> None:
    class Times(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    model = nn.Sequential(
        nn.Linear(3, 8), nn.RMSNorm(8), Times(), nn.utils.parametrizations.weight_norm(nn.Linear(8, 2))
    )
    rows = conversion_of(convert(model, expand_ratio=(0.5, 1.0))).rows
    assert [row.path for row in rows] == ["0", "1", "2", "3"]
    assert rows[1].why_not == {"all": "there is no elastic RMSNorm"}
    assert "its factor" in rows[2].why_not["all"]


def test_torchs_transformer_keeps_its_width_and_says_why() -> None:
    def translate(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.into(x)
        return net.out(net.body(x, x).mean(1))

    body = nn.Transformer(16, 4, 1, 1, 32, batch_first=True)
    model = Net(translate, into=nn.Linear(5, 16), body=body, out=nn.Linear(16, 3))
    net = convert(model, expand_ratio=(0.5, 1.0), input_shape=(2, 6, 5))
    assert "a Transformer, checks its width" in conversion_of(net)["into"].why_not["width"]
    assert "body.encoder.layers.0.linear1.expand_ratio" in options(net)


def test_an_image_without_a_batch() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.ReLU(), nn.Conv2d(8, 2, 1))
    model, x = lively(model).eval(), torch.randn(3, 6, 6)
    net = convert(model, expand_ratio=(0.5, 1.0), example=x)
    assert options(net) == {"0.expand_ratio": ["0.5", "1.0"]}
    torch.testing.assert_close(net(x), model(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": True}, "depth is True, wanted distinct numbers"),
        ({"depth": {"layer1": True}}, "depth of layer1 is True"),
        ({"expand_ratio": float("nan")}, "expand_ratio is nan"),
        ({"expand_ratio": 1e308}, "below 1000000"),
        ({"kernel_size": "3"}, "kernel_size is '3'"),
        ({"channel": 8}, "channel is 8, wanted lists"),
        ({"skip_layers": 3}, "skip_layers is 3, wanted names"),
        ({"input_shape": 32}, "input_shape is 32, wanted sizes with the batch"),
        ({"ofa_layers": ["conv1"]}, r"ofa_layers is \['conv1'\], wanted a mapping"),
        ({"ofa_layers": {"conv1": [3]}}, "wanted a mapping such as"),
        ({"same_search_space": ["conv1", "fc"]}, r"same_search_space is \['conv1', 'fc'\], wanted groups of names"),
        ({"same_search_space": "conv1"}, "same_search_space is 'conv1', wanted groups"),
    ],
)
def test_arguments_of_another_form(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ElasticError, match=message):
        convert(ResNet(), **arguments)


def test_blocks_that_are_no_stage_point_to_the_other_way() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 3)
    with pytest.raises(ElasticError, match="RunConfig\\(elastic_depth"):
        convert(encoder, depth=(1, 2), input_shape=(2, 4, 8))


def grown_norm(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.b(F.relu(net.norm(net.a(x))))


def test_grown_norms_are_alive() -> None:
    net: Any = convert(
        Net(grown_norm, a=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4), b=nn.Conv2d(4, 2, 1)),
        expand_ratio=(1.0, 2.0),
        input_shape=(4, 3, 4, 4),
    ).train()
    assert net.norm.weight[4:].eq(1).all() and net.norm.running_var[4:].eq(1).all()
    optimizer, x = torch.optim.SGD(net.parameters(), 0.1), torch.randn(4, 3, 4, 4)
    for _ in range(2):  # at the first step only what reads the new channels moves: it begins at zero
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
    for tensor in (net.a.weight.grad, net.norm.weight.grad, net.norm.bias.grad):
        assert tensor[4:].ne(0).any()


@pytest.mark.parametrize("order", [("b", "c"), ("c", "b")])
def test_a_tie_keeps_what_is_known_of_either_side(order: tuple[str, str]) -> None:
    def summed(net: Any, x: torch.Tensor) -> torch.Tensor:
        if net.training:  # a second look would divide the tied width again
            raise ValueError("only for evaluation")
        first, second = (getattr(net, name)(net.a(x)) for name in order)
        return net.d(F.relu(first + second))

    layers = {"b": nn.Conv2d(8, 12, 1), "c": nn.Conv2d(8, 12, 1, groups=4)}
    model = Net(summed, a=nn.Conv2d(3, 8, 1), **layers, d=nn.Conv2d(12, 2, 1))
    net = convert(model, expand_ratio=(0.5, 0.75, 1.0, 2.0), input_shape=(2, 3, 4, 4))
    assert conversion_of(net)["b"].elastic == {"width": "4, 8, 12 by b.expand_ratio"}  # in fours, and no larger
