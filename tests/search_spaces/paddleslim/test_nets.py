"""Test nets of tokens: numbers known of PaddleSlim's, its faults that are mended, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import search_spaces
from search_spaces import NetError, SpaceError, paddleslim
from search_spaces.paddleslim.block_space import Blocks
from search_spaces.paddleslim.codec import describe_network
from search_spaces.paddleslim.mobilenet_v2 import MODEL_ZOO
from search_spaces.paddleslim.network import SamePadding
from tests.search_spaces.nets.models import TOKEN_NETS, config_of

FIVE = {"input_size": 32, "output_size": 8, "block_num": 5}
BLOCK_NETS = [name for name in TOKEN_NETS if name.endswith("BlockSpace")]

# Typed from what was observed of PaddleSlim 2.6: ranges (a block space's of one block), initial tokens
V2_RANGE = (7, 5, 8, 6, 2, 5, 8, 6, 2, 5, 8, 6, 2, 5, 10, 6, 2, 5, 10, 6, 2, 5, 12, 6, 2)
V1_RANGE = (7, 8, 8, 2, 8, 10, 2, 10, 10, 2, 10, 12, 2, 12, 11, 2, 11, 14, 2, 6, 14, 13, 2, 13, 12, 2, 12, 12, 2)
V2_INITIAL = (4, 4, 5, 1, 0, 4, 4, 2, 0, 4, 4, 3, 0, 4, 5, 2, 0, 4, 7, 2, 0, 4, 9, 0, 0)
V1_INITIAL = (6, 6, 6, 0, 6, 7, 0, 7, 6, 0, 6, 10, 0, 10, 8, 0, 8, 11, 0, 4, 11, 8, 0, 8, 10, 0, 10, 10, 0)
RANGES: dict[str, tuple[int, ...]] = {
    "DartsSpace": (14,) * 20,
    "InceptionABlockSpace": (23,) * 7 + (2, 2),
    "InceptionCBlockSpace": (23,) * 9 + (2, 2),
    "MobileNetV1BlockSpace": (25, 25, 2),
    "MobileNetV1Space": V1_RANGE,
    "MobileNetV2BlockSpace": (6, 20, 6, 2),
    "MobileNetV2Space": V2_RANGE,
    "ResNetBlockSpace": (12, 12, 12, 2, 12, 12),
    "ResNetSpace": (7, 5, 7, 6, 6, 13, 5, 6),
}
INITIAL = {
    "DartsSpace": (5,) * 6 + (7,) * 7 + (10,) * 7,
    "MobileNetV1Space": V1_INITIAL,
    "MobileNetV2Space": V2_INITIAL,
    "ResNetSpace": (1, 1, 2, 2, 3, 4, 3, 1),
}
# Of PaddleSlim's initial networks without a classifier: convolutions, parameters and statistics of batch norms, and
# the output's shape for an image of so many pixels. ResNet's values are ResNet-50's with 64 * 3 * (25 - 49) fewer in
# the stem; those of Darts are 3.767 M parameters without classifier, and the statistics.
ANCHORS = {
    "MobileNetV2Space": (53, 2_259_136, 32, (1280, 1, 1)),
    "MobileNetV1Space": (27, 3_228_864, 32, (1024, 1, 1)),
    "ResNetSpace": (53, 25_557_032 - 2_049_000 - 4_608 + 2 * 26_560, 32, (2048, 2, 2)),
}


@pytest.mark.parametrize("name", TOKEN_NETS)
def test_ranges_are_paddleslims(name: str) -> None:
    blocks = 5 if name in BLOCK_NETS else 1
    config = FIVE if name in BLOCK_NETS else {}
    assert search_spaces.space_of(name, **config).radices == RANGES[name] * blocks


@pytest.mark.parametrize("name", INITIAL)
def test_initial_tokens_are_paddleslims(name: str) -> None:
    assert paddleslim.initial_tokens(name) == INITIAL[name]
    with torch.device("meta"):
        assert search_spaces.build(name).tokens == INITIAL[name]


@pytest.mark.parametrize("name", ANCHORS)
def test_initial_networks_are_paddleslims(name: str) -> None:
    convolutions, values, size, shape = ANCHORS[name]
    net = search_spaces.build(name, num_classes=None, paddle_compatible=True).eval()
    assert sum(isinstance(module, nn.Conv2d) for module in net.modules()) == convolutions
    state = {key: value for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert sum(value.numel() for value in state.values()) == values
    with torch.no_grad():
        assert net(torch.rand(1, 3, size, size)).shape == (1, *shape)


def test_darts_has_the_published_size() -> None:
    """Compare with PaddleSlim's model zoo: 3.767 MB, of the network for CIFAR-10."""
    with torch.device("meta"):
        net = search_spaces.build("DartsSpace", num_classes=10)
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 3) == 3.767


def test_keys_read_well() -> None:
    space = search_spaces.space_of("MobileNetV2Space").to_json()
    assert list(space)[:5] == [
        "head.channels", "stage1.expansion", "stage1.channels", "stage1.repeat", "stage1.kernel_size",
    ]  # fmt: skip
    assert space["stage2.expansion"] == {"_type": "layer_choice", "_value": ["1", "2", "3", "4", "6"]}
    assert space["stage2.kernel_size"]["_value"] == ["3", "5"]
    blocks = search_spaces.space_of("InceptionABlockSpace", **FIVE).to_json()
    assert blocks["block5.pool"]["_value"] == ["avg", "max"]


def test_the_model_zoos_network_has_the_published_cost() -> None:
    """Compare: 0.295 "GFLOPs" are its multiply-adds, and the 0.59 of the network it is compared with twice as many."""
    table = paddleslim.cost_table_of("MobileNetV2Space", (3, 224, 224))
    assert table.cost("macs", MODEL_ZOO) == pytest.approx(0.295e9, rel=0.001)
    assert 2 * table.cost("macs", MODEL_ZOO) == pytest.approx(0.59e9, rel=0.001)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_tokens_and_choices_are_one_another_without_a_config(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(TOKEN_NETS))
    blocks = data.draw(st.integers(1, 12)) if name in BLOCK_NETS else 1
    tokens = tuple(data.draw(st.integers(0, radix - 1)) for radix in RANGES[name] * blocks)
    choices = search_spaces.choices_of(name, tokens)
    assert search_spaces.tokens_of(name, choices) == tokens
    assert search_spaces.choices_of(name, np.array(tokens)) == choices


@pytest.mark.parametrize("name", TOKEN_NETS)
def test_a_network_is_built_from_a_trials_parameters(name: str) -> None:
    config = config_of(name)
    tokens = search_spaces.space_of(name, **config).sample(np.random.default_rng(3))
    parameters = {**search_spaces.choices_of(name, tokens), "_uid": 4}
    with torch.device("meta"):
        ours = search_spaces.build(name, choices=parameters, num_classes=7, **config)
        theirs = search_spaces.build(name, list(tokens), num_classes=7, **config)
    assert ours.tokens == theirs.tokens == tokens
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in theirs.state_dict().items()
    ]


@pytest.mark.parametrize(
    ("input_size", "output_size", "block_num", "strides"),
    [
        (32, 8, 5, [2, 1, 2, 1, 1]),
        (32, 8, 2, [2, 2]),
        (32, 8, 4, [2, 1, 2, 1]),
        (224, 7, 5, [2] * 5),
        (224, 7, 8, [2, 2, 2, 1, 2, 1, 2, 1]),
        (7, 4, 3, [2, 1, 1]),
        (32, 32, 3, [1, 1, 1]),
    ],
)
def test_strides_are_spread(input_size: int, output_size: int, block_num: int, strides: list[int]) -> None:
    config = Blocks(input_size, output_size, block_num)
    assert [stride for stride, _ in config.plan()] == strides == [stride for stride, _ in config.plan(paddle=True)]
    assert [at for _, at in config.plan()] == list(range(block_num))


@pytest.mark.parametrize("name", BLOCK_NETS)
def test_every_token_counts(name: str) -> None:
    """Find an option of each token that makes another network, whatever the stride of the block."""
    radices = RANGES[name] * 5
    middle = [radix // 2 for radix in radices]
    before = describe_network(name, middle, **FIVE).network
    for at, radix in enumerate(radices):
        others = (
            [*middle[:at], option, *middle[at + 1 :]] for option in reversed(range(radix)) if option != middle[at]
        )
        assert any(describe_network(name, other, **FIVE).network != before for other in others), at


def test_paddleslims_blocks_of_stride_1_read_those_before_again() -> None:
    base = [0] * 20
    before = describe_network("MobileNetV2BlockSpace", base, paddle_compatible=True, **FIVE).network
    dead = [
        at
        for at in range(20)
        if describe_network(
            "MobileNetV2BlockSpace", [*base[:at], 1, *base[at + 1 :]], paddle_compatible=True, **FIVE
        ).network
        == before
    ]
    assert dead == [8, 9, 10, 11, 16, 17, 18, 19]


def _count(net: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in net.modules())


def test_mobilenet_v1_has_activations_unless_it_is_paddleslims() -> None:
    with torch.device("meta"):
        assert _count(search_spaces.build("MobileNetV1Space"), nn.ReLU) == 27
        assert _count(search_spaces.build("MobileNetV1Space", paddle_compatible=True), nn.ReLU) == 0
        assert _count(search_spaces.build("MobileNetV1BlockSpace", paddle_compatible=True, **FIVE), nn.ReLU) == 0


@pytest.mark.parametrize(("paddle", "activations"), [(False, 16), (True, 0)])
def test_resnet_has_a_relu_after_the_sum_unless_it_is_paddleslims(paddle: bool, activations: int) -> None:
    with torch.device("meta"):
        net = search_spaces.build("ResNetSpace", paddle_compatible=paddle)
    assert _count(net, nn.ReLU) == 1 + 2 * 16 + activations


@pytest.mark.parametrize(("paddle", "second"), [(False, 96), (True, 128)])
def test_resnet_blocks_second_width(paddle: bool, second: int) -> None:
    tokens = (1, 2, 3, 0, 1, 1)  # 64, 96, 128 channels, 3x3, one convolution before and one after
    with torch.device("meta"):
        net = search_spaces.build("ResNetBlockSpace", tokens, paddle_compatible=paddle, block_mask=[1])
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in convolutions] == [
        (3, 64, 1), (64, second, 3), (second, 128, 1), (3, 128, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["InceptionABlockSpace", "InceptionCBlockSpace"])
@pytest.mark.parametrize(("paddle", "size"), [(False, 4), (True, 16)])
def test_inceptions_strides_under_a_mask(name: str, paddle: bool, size: int) -> None:
    with torch.device("meta"):
        net = search_spaces.build(name, num_classes=None, paddle_compatible=paddle, block_mask=[1, 0, 1])
        assert net(torch.empty(2, 3, 16, 16)).shape[2:] == (size, size)


def test_inception_c_splits_its_kernels_unless_it_is_paddleslims() -> None:
    kernels = {}
    for paddle in (False, True):
        with torch.device("meta"):
            net = search_spaces.build(
                "InceptionCBlockSpace", (0,) * 9 + (1, 0), paddle_compatible=paddle, block_mask=[0]
            )
        kernels[paddle] = [m.kernel_size for m in net.modules() if isinstance(m, nn.Conv2d)]
    one = (1, 1)
    assert kernels[False] == [one, one, one, (1, 5), (5, 1), one, (5, 5), (1, 5), (5, 1)]
    assert kernels[True] == [one, one, one, (5, 5), (5, 5), one, (5, 5), (5, 5), (5, 5)]


def test_the_mask_wins_over_sizes_that_cannot_be_reached() -> None:
    config = {"input_size": 32, "output_size": 5, "block_num": 1, "block_mask": [0, 1, 1]}
    with torch.device("meta"):
        net = search_spaces.build("MobileNetV2BlockSpace", num_classes=None, **config)
        assert net(torch.empty(2, 3, 32, 32)).shape[2:] == (8, 8)
    assert len(net.tokens) == 12


def test_initial_tokens_of_blocks_are_drawn_from_their_seed() -> None:
    drawn = [paddleslim.initial_tokens("ResNetBlockSpace", **FIVE, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    with torch.device("meta"):
        assert search_spaces.build("ResNetBlockSpace", **FIVE, seed=1).tokens == drawn[2]


@pytest.mark.parametrize(("size", "kernel"), [(8, 3), (7, 3), (8, 5), (9, 5)])
def test_same_padding_puts_what_is_odd_at_the_end(size: int, kernel: int) -> None:
    """Pad by hand at stride 2: an even image needs one pixel less than an odd one, at its beginning."""
    x = torch.ones(1, 1, size, size)
    padded = SamePadding((kernel, kernel), 2)(x)
    before, after = {(8, 3): (0, 1), (7, 3): (1, 1), (8, 5): (1, 2), (9, 5): (2, 2)}[size, kernel]
    assert torch.equal(padded, functional.pad(x, (before, after, before, after)))


def test_paddleslims_networks_pad_as_paddle_does() -> None:
    net = search_spaces.build("MobileNetV2Space", num_classes=None, paddle_compatible=True)
    x = torch.rand(1, 3, 8, 8)
    conv = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    stem = net.features.stem
    wanted = functional.conv2d(functional.pad(x, (0, 1, 0, 1)), conv.weight, stride=2)
    assert torch.equal(stem[1](stem[0](x)), wanted)
    assert _count(net, SamePadding) == 5
    assert _count(search_spaces.build("MobileNetV2Space", num_classes=None), SamePadding) == 0


def _fails(kind: type[Exception], name: str, *parts: str, **config: Any) -> None:
    with pytest.raises(kind) as caught:
        search_spaces.build(name, **config)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def test_all_that_is_wrong_is_named_at_once() -> None:
    wrong = [9, *V2_INITIAL[1:-1], 2.0]
    _fails(
        NetError, "MobileNetV2Space", "token 0 (head.channels) is 9, wanted 0 to 6",
        "token 24 (stage6.kernel_size) is 2.0, wanted 0 to 1", "num_classes is 0", tokens=wrong, num_classes=0,
    )  # fmt: skip
    _fails(NetError, "MobileNetV2Space", "got 2 tokens, wanted 25, one for each of head.channels", tokens=[1, 2])
    _fails(NetError, "MobileNetV2Space", "got 7, wanted 25", tokens=7)
    _fails(NetError, "MobileNetV2Space", "takes no 'block_num', 'tokenz', wanted some of: tokens, choices, num_classes",
           "num_classes is 0", "in_channels is 0", block_num=3, tokenz=1, num_classes=0, in_channels=0)  # fmt: skip
    _fails(NetError, "darts", "takes no 'tokens'", tokens=[1])


def test_blocks_that_cannot_be() -> None:
    name = "MobileNetV2BlockSpace"
    _fails(NetError, name, "no input_size, output_size, block_num: wanted", "num_classes is -1", num_classes=-1)
    _fails(NetError, name, "output_size 5 cannot be reached from input_size 32", "wanted one of 32, 16, 8, 4, 2, 1",
           input_size=32, output_size=5, block_num=6)  # fmt: skip
    _fails(NetError, name, "halving at most 2 times, wanted one of 32, 16, 8", "in_channels is 0", "seed is -1",
           input_size=32, output_size=4, block_num=2, in_channels=0, seed=-1)  # fmt: skip
    _fails(NetError, name, "wanted one of 7, 4, 2, 1", input_size=7, output_size=3, block_num=3)
    _fails(NetError, name, "output_size is 0", "block_num is True", input_size=32, output_size=0, block_num=True)
    _fails(NetError, name, "block_mask is [1, 2], wanted a list of 1", block_mask=[1, 2], input_size=1, output_size=9)
    _fails(NetError, name, "block_mask is []", block_mask=[])
    with pytest.raises(NetError, match="block_mask is 'ab'"):
        search_spaces.space_of(name, block_mask="ab")


def test_choices_that_do_not_fit() -> None:
    choices = search_spaces.choices_of("ResNetSpace", INITIAL["ResNetSpace"])
    _fails(NetError, "ResNetSpace", "both tokens and choices", tokens=INITIAL["ResNetSpace"], choices=choices)
    broken = {**choices, "stage1.channels": {"_value": "65", "_idx": 1}, "stage5.channels": 1}
    del broken["stage2.repeat"]
    parts = ("missing 'stage2.repeat'", "unknown 'stage5.channels'", "stage1.channels")
    _fails(NetError, "ResNetSpace", *parts, choices=broken)
    with pytest.raises(SpaceError) as caught:
        search_spaces.tokens_of("ResNetSpace", broken)
    assert all(part in str(caught.value) for part in parts)
    with pytest.raises(SpaceError, match="wanted an object"):
        search_spaces.tokens_of("ResNetBlockSpace", [1, 2])
    with pytest.raises(SpaceError, match=r"token 0 \(stage1.channels\) is 7(.|\n)*token 7 \(stage4.repeat\) is -1"):
        search_spaces.choices_of("ResNetSpace", (7, 0, 0, 0, 0, 0, 0, -1))
    with pytest.raises(SpaceError, match="got 8 tokens, wanted 6"):
        search_spaces.choices_of("ResNetBlockSpace", (0,) * 8)
    with pytest.raises(NetError, match="darts is no net of tokens"):
        paddleslim.initial_tokens("darts")
