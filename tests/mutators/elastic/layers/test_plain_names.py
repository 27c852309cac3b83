"""Elastic layers under the names of torch's: what the plain layer now in use would say, and what it keeps."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mutators import apply_choices, extract, search_space_of
from mutators.elastic import conversion_of, convert
from mutators.elastic.layers import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticConvTranspose2d,
    ElasticEmbedding,
    ElasticGroupNorm,
    ElasticInstanceNorm2d,
    ElasticLayerNorm,
    ElasticLinear,
    ElasticMultiheadAttention,
)
from search_spaces import Space

CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
NORM = ("eps", "momentum", "affine", "track_running_stats", "num_features")
MHA = ("embed_dim", "num_heads", "head_dim", "dropout", "batch_first", "kdim", "vdim")
LAYERS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "conv": (lambda: ElasticConv2d((3, 6), (4, 8), (3, 5, 7), 2, 8, 2, padding_mode="reflect"), CONV),
    "depthwise": (lambda: ElasticConv2d((4, 8), 8, (3, 5), groups=8), CONV),
    "grouped": (lambda: ElasticConv2d((4, 8), (6, 12), 3, groups=2), CONV),
    "oblong": (lambda: ElasticConv2d.of(nn.Conv2d(3, 4, (1, 5), padding="same"), out_channels=(2, 4)), CONV),
    "transposed": (
        lambda: ElasticConvTranspose2d((3, 6), (4, 8), (3, 5), 3, output_padding=1, dilation=2),
        (*CONV, "output_padding", "transposed"),
    ),
    "linear": (lambda: ElasticLinear((3, 6), (4, 8), bias=False), ("in_features", "out_features", "bias")),
    "embedding": (
        lambda: ElasticEmbedding.of(nn.Embedding(9, 8, 3, scale_grad_by_freq=True), (4, 8)),
        ("num_embeddings", "embedding_dim", "padding_idx", "scale_grad_by_freq", "sparse"),
    ),
    "batch_norm": (lambda: ElasticBatchNorm2d((4, 8), 0.02, 0.3), NORM),
    "no_statistics": (lambda: ElasticBatchNorm2d((4, 8), affine=False, track_running_stats=False), NORM),
    "layer_norm": (lambda: ElasticLayerNorm((4, 8), 0.02, bias=False), ("normalized_shape", "eps", "bias")),
    "group_norm": (lambda: ElasticGroupNorm(4, (4, 8), 0.02), ("num_groups", "num_channels", "eps")),
    "instance_norm": (lambda: ElasticInstanceNorm2d((4, 8), 0.02, True), ("num_features", "eps")),
    "attention": (lambda: ElasticMultiheadAttention((8, 16), (2, 4), 0.3, False, True), MHA),
    "no_batch_first": (lambda: ElasticMultiheadAttention((8, 16), (1, 4), 0.3), MHA),
}
"""What builds a layer, with values that are no defaults, and the names that its plain layer has."""


@pytest.mark.parametrize("name", list(LAYERS))
def test_it_says_what_the_extracted_layer_says(name: str) -> None:
    build, names = LAYERS[name]
    layer = build()
    space = Space.from_json(search_space_of(layer))
    for tokens in [(0,) * len(space.radices), tuple(n - 1 for n in space.radices)]:
        choices = space.decode(tokens)
        apply_choices(layer, choices)
        plain = extract(layer, choices)
        for attribute in names:
            assert getattr(layer, attribute) == getattr(plain, attribute), attribute


class Scaled(nn.Conv2d):
    """Only built in another way, with an attribute of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = 2.0


class Standardised(nn.Conv2d):
    """With a forward of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Halved(nn.Conv2d):
    """Torch's forward calls a method of its own."""

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return super()._conv_forward(x, weight / 2, bias)


class Buffered(nn.Conv2d):
    """With a buffer that the model's forward uses."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("gain", torch.full((1, self.out_channels, 1, 1), 2.0))


class Reading(nn.Module):
    """A forward that reads its layers' attributes. (N, 3, H, W) to (N, 3)."""

    def __init__(self, conv: type[nn.Conv2d] = Scaled) -> None:
        super().__init__()
        self.first, self.second = conv(3, 8, 3, padding=1), nn.Conv2d(8, 6, 1)
        self.fc, self.attention = nn.Linear(6, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        margin = self.first.kernel_size[0] // 2
        x = self.first(F.pad(x, (margin,) * 4)) * getattr(self.first, "gain", 1.0)
        x = self.second(F.relu(x)).view(len(x), self.second.out_channels, -1).mean(-1)
        x = self.fc(x.view(-1, self.fc.in_features)).unsqueeze(1)
        x = self.attention(x, x, x)[0] / self.attention.embed_dim**0.5
        return self.head(x.squeeze(1))


def test_a_forward_may_read_what_its_layers_are() -> None:
    net = convert(Reading(), kernel_size=(1, 3), expand_ratio=(0.5, 1.0), input_shape=(2, 3, 8, 8)).eval()
    space, x = Space.from_json(search_space_of(net)), torch.randn(2, 3, 8, 8)
    widths = ("first.expand_ratio", "fc.expand_ratio", "attention.expand_ratio")
    assert set(space.keys) == {"first.kernel_size", *widths}
    for tokens in itertools.product((0, 1), repeat=4):
        choices = space.decode(tokens)
        apply_choices(net, choices)
        plain = extract(net, choices)
        assert plain.first.gain == 2.0
        torch.testing.assert_close(plain(x), net(x))


def test_a_view_by_the_layers_own_size_runs_at_every_width() -> None:
    conv = ElasticConv2d(3, (2, 4), (1, 3))
    for width in (2, 4):
        conv.set_config(channel=width, kernel_size=1)
        assert conv(torch.randn(2, 3, 4, 4)).view(2, conv.out_channels, -1).shape == (2, width, 16)
        assert conv.kernel_size == (1, 1)
    assert set(conv.state_dict()) == {"weight", "bias", "3to1_matrix"}


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Standardised, "it is a Conv2d with its own forward"),
        (Halved, "it is a Conv2d with its own _conv_forward"),
        (Buffered, "it has gain besides"),
    ],
)
def test_a_layer_that_does_more_than_its_kind_stays(kind: type[nn.Conv2d], why: str) -> None:
    net = convert(Reading(kind), kernel_size=(1, 3), expand_ratio=(0.5, 1.0), input_shape=(2, 3, 8, 8))
    assert type(net.first) is kind
    assert why in conversion_of(net)["first"].why_not["all"]


def test_what_is_set_on_a_plain_layer_is_kept() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    model[0].stage = ["early"]  # type: ignore[assignment]
    net = convert(model, expand_ratio=(0.5, 1.0))
    assert isinstance(net[0], ElasticConv2d)  # type: ignore[index]
    plain = extract(net, {"0.expand_ratio": {"_idx": 0}})
    assert net[0].stage == plain[0].stage == ["early"]  # type: ignore[index]
    assert plain[0].stage is not net[0].stage  # type: ignore[index]
    assert not any(name.startswith("_others") for name in vars(plain[0]))
