"""The other elastic layers: against plain layers of sliced weights, and extracted against applied."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mutators import ValueChoice, apply_choices, extract, search_space_of
from mutators.elastic import ElasticError
from mutators.elastic.layers import (
    Channels,
    ElasticConvTranspose2d,
    ElasticEmbedding,
    ElasticGroupNorm,
    ElasticInstanceNorm2d,
    ElasticLayerNorm,
    ElasticLinear,
    ElasticMultiheadAttention,
    Width,
)
from search_spaces import Space


def test_a_transposed_convolution_is_sliced_the_other_way_round() -> None:
    layer = ElasticConvTranspose2d(6, (2, 4), (1, 3, 5), stride=2, output_padding=1)
    x = torch.randn(1, 6, 5, 5)
    shape = layer(x).shape
    assert layer.bias is not None
    layer.set_config(channel=2, kernel_size=3)
    expected = F.conv_transpose2d(x[:, :3], layer.weight[:3, :2, 1:4, 1:4], layer.bias[:2], 2, 1, 1)
    torch.testing.assert_close(layer(x[:, :3]), expected)
    assert layer(x).shape == (1, 2, *shape[2:])


@pytest.mark.parametrize("groups", [2, 8])
def test_a_transposed_convolution_with_groups(groups: int) -> None:
    layer = ElasticConvTranspose2d(8, 8, 3, groups=groups)
    x = torch.randn(1, 4, 5, 5)
    assert layer.bias is not None
    if groups == 8:
        expected = F.conv_transpose2d(x, layer.weight[:4], layer.bias[:4], 1, 1, groups=4)
    else:
        expected = F.conv_transpose2d(x, layer.weight[:4], layer.bias, 1, 1, groups=2)
    torch.testing.assert_close(layer(x), expected)


def test_a_transposed_convolution_grows_with_zeros() -> None:
    conv = nn.ConvTranspose2d(3, 2, 3, 2, padding=1, output_padding=1)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(ElasticConvTranspose2d.of(conv, kernel_size=(3, 5))(x), conv(x))


def test_norms_are_those_of_their_channels() -> None:
    x = torch.randn(3, 6, 4, 4)
    layer_norm, group_norm, instance_norm = ElasticLayerNorm(8), ElasticGroupNorm(4, 8), ElasticInstanceNorm2d(8)
    torch.testing.assert_close(layer_norm(x.transpose(1, 3)), nn.LayerNorm(6)(x.transpose(1, 3)))
    torch.testing.assert_close(group_norm(x), nn.GroupNorm(3, 6)(x))
    torch.testing.assert_close(instance_norm(x), nn.InstanceNorm2d(6)(x))


class Layers(nn.Module):
    """An embedding, an attention, a norm and an MLP, with an elastic stream."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = ElasticEmbedding(11, (8, 16), padding_idx=0)
        width = self.embedding.features
        assert width is not None
        self.norm = ElasticLayerNorm(width)
        attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.attention = ElasticMultiheadAttention.of(attention, (1, 2, 4), width)
        self.up = ElasticLinear(width, (5, 12, 24))
        self.down = ElasticLinear(self.up.outputs, width)  # type: ignore[arg-type]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        out: torch.Tensor = x + self.down(torch.relu(self.up(x)))
        return out


def test_a_transformer_block_extracts_to_what_it_computes() -> None:
    net = Layers().eval()
    space = Space.from_json(search_space_of(net))
    assert space.keys == ("embedding.channel", "attention.heads", "up.channel")
    tokens = torch.randint(11, (3, 7))
    for at in itertools.product(*map(range, space.radices)):
        choices = space.decode(at)
        plain = extract(net, choices)
        apply_choices(net, choices)
        torch.testing.assert_close(plain(tokens), net(tokens), atol=1e-5, rtol=1e-5)
        assert not any(type(module).__name__.startswith("Elastic") for module in plain.modules())
        assert plain.attention.out_proj.in_features == 4 * (1, 2, 4)[at[1]]
        full = isinstance(plain.attention, nn.MultiheadAttention)
        assert full == (4 * (1, 2, 4)[at[1]] == (8, 16)[at[0]])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("mask", [None, "bool", "float", "heads"])
@pytest.mark.parametrize("padding", [False, True])
def test_with_all_heads_it_is_torchs_attention(batch_first: bool, need_weights: bool, mask: Any, padding: bool) -> None:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(12, 3, batch_first=batch_first)
    n, rows, columns = 2, 5, 4
    query, key = torch.randn(n, rows, 12), torch.randn(n, columns, 12)
    if not batch_first:
        query, key = query.transpose(0, 1), key.transpose(0, 1)
    masks = {"bool": torch.rand(rows, columns) < 0.3, "float": torch.randn(rows, columns)}
    masks["heads"] = torch.randn(n * 3, rows, columns)
    arguments = {
        "attn_mask": masks.get(mask),
        "key_padding_mask": torch.tensor([[False] * 3 + [True], [False] * 4]) if padding else None,
        "need_weights": need_weights,
    }
    if mask == "float" and padding:
        arguments["key_padding_mask"] = torch.zeros(n, columns).masked_fill(arguments["key_padding_mask"], -1e9)
    if mask == "heads" and padding:
        arguments["key_padding_mask"] = torch.zeros(n, columns)
    expected, weights = plain(query, key, key, **arguments)
    got, got_weights = ElasticMultiheadAttention.of(plain, (1, 3))(query, key, key, **arguments)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    if need_weights:
        torch.testing.assert_close(got_weights, weights, atol=1e-6, rtol=1e-5)
    else:
        assert got_weights is None


def test_without_a_batch() -> None:
    plain = nn.MultiheadAttention(12, 3)
    x = torch.randn(5, 12)
    expected, weights = plain(x, x, x)
    got, got_weights = ElasticMultiheadAttention.of(plain)(x, x, x)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(got_weights, weights)


def test_a_head_that_is_left_out_is_one_whose_columns_are_zero() -> None:
    plain = nn.MultiheadAttention(12, 3, batch_first=True)
    x = torch.randn(2, 5, 12)
    layer = ElasticMultiheadAttention.of(plain, (2, 3))
    layer.set_config(heads=2)
    got = layer(x, x, x)[0]
    with torch.no_grad():
        plain.out_proj.weight[:, 8:] = 0
    torch.testing.assert_close(got, plain(x, x, x)[0])


def test_an_encoder_layer_runs_it_and_not_its_own_fast_path() -> None:
    encoder = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, dropout=0.0).eval()
    layer = ElasticMultiheadAttention.of(encoder.self_attn, (1, 3))
    encoder.self_attn = layer  # type: ignore[assignment]
    x = torch.randn(2, 5, 12)
    with torch.inference_mode():
        full = encoder(x)
        layer.set_config(heads=1)
        assert not torch.allclose(full, encoder(x))


def test_axes_name_every_cut_tensor() -> None:
    net = Layers()
    found = {
        (f"{path}.{axis.name}", axis.dim, axis.reads)
        for path, module in net.named_modules()
        if hasattr(module, "axes")
        for axis in module.axes()
    }
    assert found == {
        ("embedding.weight", 1, False),
        ("norm.weight", 0, False),
        ("norm.bias", 0, False),
        ("attention.in_proj_weight", 0, False),
        ("attention.in_proj_bias", 0, False),
        ("attention.in_proj_weight", 1, True),
        ("attention.out_proj.weight", 0, False),
        ("attention.out_proj.bias", 0, False),
        ("attention.out_proj.weight", 1, True),
        ("up.weight", 0, False),
        ("up.bias", 0, False),
        ("up.weight", 1, True),
        ("down.weight", 0, False),
        ("down.bias", 0, False),
        ("down.weight", 1, True),
    }


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ElasticGroupNorm(2, (2, 8)), r"channels \[2\] are no multiples of the groups' size, 4"),
        (lambda: ElasticLayerNorm.of(nn.LayerNorm((4, 4))), "wanted one dimension"),
        (lambda: ElasticInstanceNorm2d.of(nn.InstanceNorm2d(4, track_running_stats=True)), "tracks statistics"),
        (lambda: ElasticEmbedding.of(nn.Embedding(5, 4, max_norm=1.0)), "max_norm"),
        (lambda: ElasticEmbedding.of(nn.Embedding(5, 4), (2, 8)), "8 at most, but the embedding has 4"),
        (lambda: ElasticMultiheadAttention.of(nn.MultiheadAttention(8, 4, add_zero_attn=True)), "zero_attn"),
        (lambda: ElasticMultiheadAttention.of(nn.MultiheadAttention(8, 4, kdim=3)), "another width"),
        (lambda: ElasticMultiheadAttention.of(nn.MultiheadAttention(8, 4), (1, 2)), "2 at most, but the layer has 4"),
        (lambda: Width(4, (ValueChoice((1, 2)),), {(0,): 4}), "no size for"),
        (lambda: Width(4, (), {(): 5}), "the size for"),
        (lambda: ElasticLayerNorm.of(nn.LayerNorm(4), Channels((3, 1))), "3 at most, but the norm has 4"),
    ],
)
def test_bad_input_says_what_is_wrong(build: Any, message: str) -> None:
    with pytest.raises(ElasticError, match=message):
        build()


@pytest.mark.parametrize("padding", [False, True])
def test_a_mask_of_each_head_loses_those_of_the_heads_left_out(padding: bool) -> None:
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(12, 3, batch_first=True)
    x, mask = torch.randn(2, 5, 12), torch.randn(2 * 3, 5, 5)
    ignored = torch.zeros(2, 5).masked_fill(torch.tensor([[False] * 4 + [True], [False] * 5]), -1e9)
    arguments = {"key_padding_mask": ignored if padding else None}
    layer = ElasticMultiheadAttention.of(plain, (2, 3))
    layer.set_config(heads=2)
    got, weights = layer(x, x, x, attn_mask=mask, average_attn_weights=False, **arguments)
    with torch.no_grad():
        plain.out_proj.weight[:, 8:] = 0  # what the third head says
    expected, all_weights = plain(x, x, x, attn_mask=mask, average_attn_weights=False, **arguments)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(weights, all_weights[:, :2])


def test_an_attention_is_built_like_the_other_layers() -> None:
    layer = ElasticMultiheadAttention((8, 16), (1, 2, 4), batch_first=True)
    assert layer.options == {"heads": (1, 2, 4), "channel": (8, 16)}
    layer.set_config(heads=2, channel=8)
    x = torch.randn(2, 5, 8)
    assert layer(x, x, x)[0].shape == (2, 5, 8)
    assert (layer.embed_dim, layer.num_heads, layer.head_dim) == (8, 2, 4)
    assert ElasticMultiheadAttention(16, 4).options == {}
    with pytest.raises(ElasticError, match="no multiple of the 4 heads"):
        ElasticMultiheadAttention(10, 4)


def test_an_input_of_no_whole_groups_is_an_error() -> None:
    with pytest.raises(ElasticError, match="the input has 6 channels, wanted a multiple of 4"):
        ElasticGroupNorm(4, 16)(torch.randn(2, 6, 3, 3))


def test_an_instance_norm_takes_an_image_without_a_batch() -> None:
    x = torch.randn(6, 4, 4) * 3 + 1
    torch.testing.assert_close(ElasticInstanceNorm2d(8, affine=True)(x), nn.InstanceNorm2d(6)(x))
