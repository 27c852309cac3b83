"""The sparse runtime: what it computes is the convolution, at any shape and number of threads; what does not fit."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from mutators.pruning import GMPUnstructuredPruner, UnstructuredPruner, sparse_inference
from mutators.pruning.sparse import runtime
from mutators.pruning.sparse.runtime import SparseConv1x1, SparseRuntimeError

needs_llvm = pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="pip install llvmlite")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def conv(out: int, channels: int, sparsity: float, seed: int = 0, **options: Any) -> nn.Conv2d:
    """With weights and inputs that are whole numbers, so that sums are exact in any order."""
    generator = torch.Generator().manual_seed(seed)
    made = nn.Conv2d(channels, out, 1, **options).requires_grad_(False)
    for parameter in made.parameters():
        parameter.copy_(torch.randint(1, 9, parameter.shape, generator=generator))
    made.weight[torch.rand(made.weight.shape, generator=generator) < sparsity] = 0
    return made


def image(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(-9, 9, shape, generator=torch.Generator().manual_seed(seed)).float()


@needs_llvm
@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 13), st.integers(1, 13)),
    out=st.integers(1, 40),
    sparsity=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    stride=st.sampled_from([1, 2, (1, 3)]),
    bias=st.booleans(),
    threads=st.integers(1, 5),
    last=st.booleans(),
)
def test_it_is_the_convolution(
    sizes: tuple[int, ...], out: int, sparsity: float, stride: Any, bias: bool, threads: int, last: bool
) -> None:
    made = conv(out, sizes[1], sparsity, stride=stride, bias=bias)
    x = image(*sizes)
    torch.set_num_threads(threads)
    found = SparseConv1x1(made)(x.to(memory_format=torch.channels_last) if last else x)
    assert torch.equal(found, made(x)) and found.is_contiguous()


@needs_llvm
@pytest.mark.parametrize("columns", [1, 15, 16, 17, 31, 32, 33, 49, 63, 64, 65, 80, 127, 128, 129, 196, 784, 1000])
def test_every_number_of_columns(columns: int) -> None:
    """Whole tiles, tiles of different widths, and last vectors that overlap; nothing is written past the end."""
    made, x = conv(7, 20, 0.6), image(1, 20, 1, columns)
    assert torch.equal(SparseConv1x1(made)(x), made(x))


@needs_llvm
def test_rows_without_weights_and_a_matrix_without_any() -> None:
    made, x = conv(6, 8, 0.0), image(2, 8, 5, 5)
    made.weight[[0, 3, 5]] = 0
    assert torch.equal(SparseConv1x1(made)(x), made(x))
    made.weight.zero_()
    assert torch.equal(SparseConv1x1(made)(x), made(x))


@needs_llvm
def test_a_zero_weight_passes_over_what_is_not_finite() -> None:
    made, x = conv(2, 2, 0.0, bias=False), image(1, 2, 4, 4)
    made.weight[:, 1] = 0
    x[:, 1] = float("nan")
    assert torch.equal(SparseConv1x1(made)(x), made.weight[:, 0].view(1, 2, 1, 1) * x[:, :1])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.narrow = conv(16, 16, 0.9)
        self.wide = nn.Sequential(conv(64, 16, 0.8), nn.ReLU())
        self.again = self.wide[0]
        self.dense = conv(8, 64, 0.3)
        self.padded = conv(8, 8, 0.9, padding=1)
        self.grouped = conv(8, 8, 0.9, groups=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.narrow(self.stem(x))
        x = self.dense(self.wide(x) + self.again(x))
        out: torch.Tensor = self.grouped(self.padded(x))
        return out


@needs_llvm
class TestNetworks:
    def test_what_is_replaced(self) -> None:
        net = Net()
        before = copy.deepcopy(net.state_dict())
        faster = sparse_inference(net)
        replaced = {
            name for name, module in faster.named_modules(remove_duplicate=False) if type(module) is SparseConv1x1
        }
        assert replaced == {"narrow", "wide.0", "again"}
        assert not faster.training and net.training
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
        assert not any(isinstance(module, SparseConv1x1) for module in net.modules())

    def test_it_computes_the_same(self) -> None:
        net, x = Net().eval(), torch.randn(2, 3, 9, 9)
        with torch.inference_mode():
            assert torch.allclose(sparse_inference(net)(x), net(x), rtol=1e-4, atol=1e-2)

    def test_copies(self) -> None:
        net, x = sparse_inference(Net()), torch.randn(2, 3, 9, 9)
        with torch.inference_mode():
            assert torch.equal(copy.deepcopy(net)(x), net(x))

    @pytest.mark.slow
    def test_compiled_ones(self) -> None:
        net, x = sparse_inference(Net()), torch.randn(2, 3, 9, 9)
        with torch.no_grad():
            assert torch.allclose(torch.compile(net, backend="eager")(x), net(x))

    def test_the_network_may_be_the_convolution(self) -> None:
        assert isinstance(sparse_inference(conv(4, 4, 0.9)), SparseConv1x1)

    def test_what_a_pruner_has_pruned_is_zero_whatever_the_optimizer_did(self) -> None:
        net = nn.Sequential(nn.Conv2d(8, 8, 1))
        pruner = UnstructuredPruner(net, ratio=0.75)
        pruner.step()
        net[0].weight.data += 1
        assert "weights=16 of 64" in repr(sparse_inference(net)[0])

    def test_what_does_more_than_a_convolution_stays_dense(self) -> None:
        class Standardized(nn.Conv2d):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
                return nn.functional.conv2d(x, weight, self.bias)

        standardized = Standardized(8, 8, 1)
        standardized.load_state_dict(conv(8, 8, 0.9).state_dict())
        net = nn.Sequential(standardized, *(conv(8, 8, 0.9, seed) for seed in range(4)))
        net[1].register_forward_hook(lambda module, args, output: 2 * output)
        net[2].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
        net[3].forward = lambda x: -x
        pruner = UnstructuredPruner(net, ratio=0.5)
        faster = sparse_inference(net)
        assert [type(module) is SparseConv1x1 for module in faster] == [False, False, False, False, True]
        with torch.inference_mode():
            assert torch.allclose(faster(image(2, 8, 5, 5)), net(image(2, 8, 5, 5)))
        pruner.remove()

    def test_a_larger_share_may_be_asked_for(self) -> None:
        faster = sparse_inference(Net(), min_sparsity=0.85)
        assert isinstance(faster.narrow, SparseConv1x1) and isinstance(faster.wide[0], nn.Conv2d)


@needs_llvm
@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.zeros(4, 5, 5), r"got \(4, 5, 5\) of torch.float32 on cpu, wanted \(N, 4, H, W\)"),
        (torch.zeros(1, 3, 5, 5), r"got \(1, 3, 5, 5\)"),
        (torch.zeros(1, 4, 5, 5, dtype=torch.float64), "of torch.float64"),
        (torch.zeros(1, 4, 5, 5, device="meta"), "on meta"),
        (torch.zeros(1, 4, 5, 5, requires_grad=True), "no gradients"),
    ],
)
def test_inputs_that_do_not_fit(x: torch.Tensor, said: str) -> None:
    with pytest.raises(SparseRuntimeError, match=said):
        SparseConv1x1(conv(4, 4, 0.5))(x)


@needs_llvm
@pytest.mark.parametrize(
    ("net", "share", "said"),
    [
        (nn.Linear(3, 3), 0.65, "has 65% zeros: there is none"),
        (nn.Sequential(conv(64, 64, 0.3)), 0.65, r"the sparsest is 0 with 29\.4%"),
        (conv(64, 64, 0.3), 0.65, "the sparsest is the network"),
        (conv(8, 8, 0.9).double(), 0.65, "there is none"),
        (conv(8, 8, 0.9), 1.0, "min_sparsity is 1.0, wanted"),
        (conv(8, 8, 0.9), -0.1, "min_sparsity is -0.1, wanted"),
        (conv(8, 8, 0.9), float("nan"), "min_sparsity is nan, wanted"),
    ],
)
def test_networks_that_do_not_fit(net: nn.Module, share: float, said: str) -> None:
    with pytest.raises(SparseRuntimeError, match=said):
        sparse_inference(net, share)


def test_without_llvmlite_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    with pytest.raises(SparseRuntimeError, match=r'pip install "nas-tuners\[sparse\]"'):
        sparse_inference(conv(4, 4, 0.9))


@needs_llvm
def test_after_gradual_pruning() -> None:
    net = nn.Sequential(nn.Conv2d(3, 32, 1), nn.ReLU(), nn.Conv2d(32, 8, 1))
    pruner = GMPUnstructuredPruner(net, 0.8, configs={"pruning_iterations": 4, "tunning_iterations": 1})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(5):
        optimizer.zero_grad()
        net(torch.randn(2, 3, 6, 6)).square().mean().backward()
        optimizer.step()
        pruner.step()
    pruner.remove()
    with torch.inference_mode():
        x = torch.randn(1, 3, 6, 6)
        assert torch.allclose(sparse_inference(net, 0.5)(x), net(x), atol=1e-5)
