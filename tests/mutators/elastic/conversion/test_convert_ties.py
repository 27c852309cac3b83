"""Which widths a conversion ties, and which it leaves as they are: one small model for each way to use channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mutators import apply_choices, extract, search_space_of
from mutators.elastic import ElasticError, conversion_of, convert, sort_channels
from search_spaces import Space
from tests.mutators.elastic.models import Net, lively


def conv(c_in: int, c_out: int, kernel: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, groups=groups)


def head(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.fc(x.mean((2, 3)))


def attend(net: Net, x: torch.Tensor, shape: str) -> torch.Tensor:
    """Attention as people write it, of four heads with four features each."""
    x = net.first(x)
    n, length, width = x.shape
    sizes = {"heads": (4, -1), "head_dim": (-1, 4), "computed": (4, width // 4)}[shape]
    q, k, v = (layer(x).view(n, length, *sizes).transpose(1, 2) for layer in (net.q, net.k, net.v))
    if shape == "computed":
        attended = F.scaled_dot_product_attention(q, k, v)
    else:
        attended = torch.softmax(q @ k.transpose(-2, -1) * 0.5, -1) @ v
    x = x + net.out(attended.transpose(1, 2).reshape(n, length, -1))
    return net.fc(net.norm(x)[:, 0])


def attention(shape: str) -> Net:
    layers = {name: nn.Linear(16, 16) for name in ("q", "k", "v", "out")}
    return Net(
        lambda net, x: attend(net, x, shape),
        first=nn.Linear(5, 16),
        **layers,
        norm=nn.LayerNorm(16),
        fc=nn.Linear(16, 2),
    )


def shuffled(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


def split(net: Net, x: torch.Tensor) -> torch.Tensor:
    left, right = net.a(x).chunk(2, 1)
    return head(net, shuffled(torch.cat((left, net.b(right)), 1)))


def tokens(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = net.a(x).flatten(2).transpose(1, 2)
    return net.fc((x + net.b(x)).mean(1))


def with_class_token(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = net.a(x).flatten(2).transpose(1, 2)
    return net.fc(torch.cat((x.new_zeros(len(x), 1, 8), net.b(x)), 1)[:, 0])


def dense(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = net.a(x)
    both = torch.cat((x, net.b(x)), 1)
    return head(net, net.c(both) + both)


def gated(net: Net, x: torch.Tensor) -> torch.Tensor:
    value, gate = net.a(x).chunk(2, -1)
    return net.fc(value * torch.sigmoid(gate))


def pyramid(net: Net, x: torch.Tensor) -> torch.Tensor:
    """One layer on two sizes."""
    x = F.relu(net.a(x))
    small = F.max_pool2d(x, 2)
    return head(net, net.b(x) + F.interpolate(net.b(small), scale_factor=2.0))


def u_shaped(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = net.norm(net.a(x))
    return head(net, net.c(torch.cat([net.up(net.b(F.avg_pool2d(x, 2))), x], 1)))


def branching(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = net.a(x)
    if x.shape[0] > 0 and bool(x.sum() == x.sum()):
        x = x + net.b(x)
    return net.fc(x.mean((2, 3))) + (net.extra(x.mean((2, 3))) if net.training else 0)


def padded(net: Net, x: torch.Tensor) -> torch.Tensor:
    x = net.a(x)
    return head(net, net.b(x) + F.pad(x, (0, 0, 0, 0, 2, 2)))


IMAGE, TOKENS, VECTOR = (2, 3, 8, 8), (2, 6, 5), (2, 6)
CASES: dict[str, tuple[Callable[[], Net], tuple[int, ...], dict[str, int]]] = {
    "heads": (lambda: attention("heads"), TOKENS, {"first": 3, "q": 3, "v": 3}),
    "head_dim": (lambda: attention("head_dim"), TOKENS, {"first": 3, "q": 3}),
    "computed": (lambda: attention("computed"), TOKENS, {"first": 3}),
    "shuffle": (lambda: Net(split, a=conv(3, 8), b=conv(4, 4, 3), fc=nn.Linear(8, 2)), IMAGE, {"a": 3}),
    "tokens": (lambda: Net(tokens, a=conv(3, 8), b=nn.Linear(8, 8), fc=nn.Linear(8, 2)), IMAGE, {"a": 3}),
    "token": (lambda: Net(with_class_token, a=conv(3, 8), b=nn.Linear(8, 8), fc=nn.Linear(8, 2)), IMAGE, {"a": 3}),
    "dense": (
        lambda: Net(dense, a=conv(3, 4), b=conv(4, 8), c=conv(12, 12), fc=nn.Linear(12, 2)),
        IMAGE,
        {"a": 3, "b": 3},
    ),
    "gate": (lambda: Net(gated, a=nn.Linear(6, 16), fc=nn.Linear(8, 2)), VECTOR, {"a": 3}),
    "pyramid": (lambda: Net(pyramid, a=conv(3, 4), b=conv(4, 6), fc=nn.Linear(6, 2)), IMAGE, {"a": 3, "b": 3}),
    "u": (
        lambda: Net(
            u_shaped,
            a=conv(3, 8),
            norm=nn.GroupNorm(4, 8),
            b=conv(8, 4),
            up=nn.ConvTranspose2d(4, 6, 2, 2),
            c=conv(14, 6),
            fc=nn.Linear(6, 2),
        ),
        IMAGE,
        {"a": 3, "b": 3, "up": 3, "c": 3},
    ),
    "groups": (
        lambda: Net(lambda n, x: head(n, n.b(n.a(x))), a=conv(3, 8), b=conv(8, 16, 3, 4), fc=nn.Linear(16, 2)),
        IMAGE,
        {"a": 2, "b": 3},
    ),
    "multiplied": (
        lambda: Net(lambda n, x: head(n, n.b(n.a(x))), a=conv(3, 4), b=conv(4, 8, 3, 4), fc=nn.Linear(8, 2)),
        IMAGE,
        {"b": 2},
    ),
    "branch": (
        lambda: Net(branching, a=conv(3, 4), b=conv(4, 4), fc=nn.Linear(4, 2), extra=nn.Linear(4, 2)),
        IMAGE,
        {},
    ),
    "padded": (lambda: Net(padded, a=conv(3, 4), b=conv(4, 8), fc=nn.Linear(8, 2)), IMAGE, {"a": 3}),
}
"""What builds it, its input's shape, and how many widths each choice has."""


@pytest.mark.parametrize("ratios", [(0.5, 0.75, 1.0), (0.5, 1.0, 1.5)])
@pytest.mark.parametrize("name", list(CASES))
def test_widths_are_tied_as_they_are_used(name: str, ratios: tuple[float, ...]) -> None:
    build, shape, expected = CASES[name]
    torch.manual_seed(0)
    model, x = lively(build()), torch.randn(shape)
    net = convert(model, expand_ratio=ratios, input_shape=shape)
    space = {key: len(entry["_value"]) for key, entry in search_space_of(net).items()}
    wanted = {f"{path}.expand_ratio": n for path, n in expected.items()}
    assert space == wanted if ratios[-1] == 1 else space.keys() == wanted.keys()
    for mode in (True, False):
        torch.testing.assert_close(net.train(mode)(x), model.train(mode)(x), atol=1e-6, rtol=1e-5)
    if not space:
        return
    for tokens in Space.from_json(search_space_of(net)).sample_tokens(np.random.default_rng(0), 10).tolist():
        choices = Space.from_json(search_space_of(net)).decode(tuple(tokens))
        apply_choices(net, choices)
        for mode in (True, False):
            plain = extract(net.train(mode), choices)
            torch.testing.assert_close(plain(x), net(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", list(CASES))
def test_channels_can_be_sorted(name: str) -> None:
    build, shape, _ = CASES[name]
    net, x = convert(lively(build()), expand_ratio=(0.5, 0.75, 1.0), input_shape=shape).eval(), torch.randn(shape)
    before = net(x)
    sort_channels(net)
    torch.testing.assert_close(net(x), before, atol=1e-5, rtol=1e-5)


def parametrized(layer: nn.Module) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(layer)


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda *_: None)
    return layer


@pytest.mark.parametrize(
    ("build", "shape", "path", "why"),
    [
        (
            lambda: Net(lambda n, x: n.b(n.a(x) + x), a=conv(3, 3), b=conv(3, 2)),
            IMAGE,
            "a",
            "such as a parameter or the model's input",
        ),
        (lambda: Net(lambda n, x: n.b(torch.cumsum(n.a(x), 1)), a=conv(3, 4), b=conv(4, 2)), IMAGE, "a", "cumsum"),
        (lambda: Net(lambda n, x: n.b(n.a(x)[:, :2]), a=conv(3, 4), b=conv(2, 2)), IMAGE, "a", "indexing"),
        (
            lambda: Net(lambda n, x: n.b(n.a(x).view(2, 4, -1).mean(2)), a=conv(3, 4), b=nn.Linear(4, 2)),
            IMAGE,
            "a",
            "-1",
        ),
        (lambda: Net(lambda n, x: n.a(x).mean(1), a=conv(3, 4)), IMAGE, "a", "mean runs over its channels"),
        (
            lambda: Net(lambda n, x: n.b(F.conv2d(x, n.a.weight) + n.a(x)), a=nn.Conv2d(3, 4, 1), b=conv(4, 2)),
            IMAGE,
            "a",
            "conv2d uses its weight directly",
        ),
        (
            lambda: Net(lambda n, x: n.b(n.a(x)), a=parametrized(conv(3, 4)), b=conv(4, 2)),
            IMAGE,
            "a",
            "parametrizations",
        ),
        (lambda: Net(lambda n, x: n.b(n.a(x)), a=hooked(conv(3, 4)), b=conv(4, 2)), IMAGE, "a", "hooks"),
        (
            lambda: Net(lambda n, x: n.b(n.a(x)[0]), a=nn.LSTM(5, 4), b=nn.Linear(4, 4), c=conv(3, 3)),
            TOKENS,
            "c",
            "did not run",
        ),
    ],
)
def test_what_stays_says_why(build: Callable[[], Net], shape: tuple[int, ...], path: str, why: str) -> None:
    net = convert(build(), expand_ratio=(0.5, 1.0), input_shape=shape)
    row = conversion_of(net)[path]
    assert not row.elastic
    assert why in str(row.why_not)
    assert search_space_of(net) == {}


def test_shared_weights_stay() -> None:
    net = Net(lambda n, x: n.b(n.a(x)), a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    net.b.weight = net.a.weight
    converted = convert(net, expand_ratio=(0.5, 1.0))
    assert "shared" in conversion_of(converted)["a"].why_not["all"]
    assert converted.b.weight is converted.a.weight


def test_what_torch_fx_cannot_trace_is_recorded_and_said_so() -> None:
    net = convert(CASES["branch"][0](), kernel_size=3, expand_ratio=(0.5, 1.0), input_shape=IMAGE)
    assert "torch.fx: TraceError" in conversion_of(net).notes[0]
    traced = convert(CASES["dense"][0](), expand_ratio=(0.5, 1.0), input_shape=IMAGE)
    assert conversion_of(traced).notes == ()


def test_without_an_input_kernels_are_elastic_still() -> None:
    def picky(net: Net, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] != 17:
            raise ValueError("wanted 17")
        return net.b(net.a(x))

    plain = Net(picky, a=conv(3, 4, 3), b=conv(4, 2))
    net = convert(plain, kernel_size=(1, 3, 5))
    assert search_space_of(net).keys() == {"a.kernel_size"}
    assert "only kernels" in conversion_of(net).notes[0]
    with pytest.raises(ElasticError, match="give example="):
        convert(plain, expand_ratio=(0.5, 1.0))


def test_a_number_in_forward_that_no_longer_holds() -> None:
    def strict(net: Net, x: torch.Tensor) -> torch.Tensor:
        x = net.a(x)
        if x.shape[1] != 4:
            raise ValueError("wanted 4 channels")
        return net.b(x)

    with pytest.raises(ElasticError, match=r"smallest sub-network does not run: ValueError: wanted 4 .*skip_layers"):
        convert(Net(strict, a=conv(3, 4), b=conv(4, 2)), expand_ratio=(0.5, 1.0))
    kept = convert(Net(strict, a=conv(3, 4), b=conv(4, 2)), expand_ratio=(0.5, 1.0), skip_layers=["a"])
    assert search_space_of(kept) == {}


def test_arguments_by_name() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
            x = self.a(x)
            return self.c(x if y is None else x + self.b(y))

    example = {"x": torch.randn(2, 3), "y": torch.randn(2, 4)}
    net = convert(Two(), expand_ratio=(0.5, 1.0), example=example)
    assert search_space_of(net).keys() == {"a.expand_ratio"}
    assert conversion_of(net)["b"].elastic == {"width": "4, 8 by a.expand_ratio"}
    by_place = convert(Two(), expand_ratio=(0.5, 1.0), example=tuple(example.values()))
    assert conversion_of(by_place).rows == conversion_of(net).rows
