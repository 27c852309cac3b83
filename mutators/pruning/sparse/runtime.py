"""Run sparse 1x1 convolutions as sparse x dense products, which is faster; on the CPU, for inference.

A 1x1 convolution of (C, H, W) is the product of its weights (C_out, C) with the image as a matrix (C, H * W). Dense
kernels, torch's and those of other runtimes, multiply all weights; here only those that are not zero are multiplied.
"""

from __future__ import annotations

import copy
import ctypes
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutators.pruning.masking import has_other_hooks, zero_pruned
from mutators.pruning.sparse.kernel import LANES, TASK, TILE, compile_kernel
from search_spaces.checks import share

MIN_SPARSITY = 0.65
"""Share of zeros from which the sparse product is faster on a processor with AVX-512; see the benchmark."""


_Task = ctypes.c_int64 * len(TASK)


class SparseRuntimeError(RuntimeError):
    """A network or its input does not fit the sparse runtime."""


class SparseConv1x1(nn.Module):
    """A 1x1 convolution (N, C_in, H, W) -> (N, C_out, H', W') that multiplies by its non-zero weights only.

    Uses as many threads as torch does. The result is that of the convolution, except for the order of the sums, and
    for infinities and NaN in the input, which weights of zero skip. The weights are no parameters and not in the state
    dict: save the original network.

    Args:
        conv: float32, on the CPU, with one group, and neither padding nor a kernel larger than one; it is not changed.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.stride = conv.stride
        weight = conv.weight.detach().flatten(1)
        rows, columns = weight.nonzero(as_tuple=True)
        begins = F.pad(torch.bincount(rows, minlength=self.out_channels).cumsum(0), (1, 0)).int()
        bias = torch.zeros(self.out_channels) if conv.bias is None else conv.bias.detach().clone()
        self._matrix = (begins, columns.int(), weight[rows, columns].contiguous(), bias)  # in the order of a task
        self._bounds: dict[int, Tensor] = {}

    def extra_repr(self) -> str:
        """Describe the layer, with the number of weights that are not zero."""
        kept, total = len(self._matrix[1]), self.in_channels * self.out_channels
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}, weights={kept} of {total}"

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C_in, H, W), float32, to (N, C_out, H', W'), contiguous.

        Raises:
            SparseRuntimeError: the input is of another shape, type or device, or needs a gradient.
        """
        self._check(x)
        if self.stride != (1, 1):
            x = x[:, :, :: self.stride[0], :: self.stride[1]]
        x = x.contiguous()
        height, width = x.shape[2:]
        if height * width >= LANES:
            return self._multiply(x, x.new_empty(len(x), self.out_channels, height, width), height * width)
        wide = F.pad(x.flatten(2), (0, LANES - height * width))
        out = self._multiply(wide, x.new_empty(len(x), self.out_channels, LANES), LANES)
        return out[..., : height * width].contiguous().view(len(x), self.out_channels, height, width)

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels or x.dtype != torch.float32 or x.device.type != "cpu":
            raise SparseRuntimeError(
                f"the sparse 1x1 convolution got {tuple(x.shape)} of {x.dtype} on {x.device}, wanted "
                f"(N, {self.in_channels}, H, W) of torch.float32 on the CPU."
            )
        if x.requires_grad and torch.is_grad_enabled():
            raise SparseRuntimeError("the sparse runtime has no gradients: call it within torch.inference_mode().")

    def _multiply(self, x: Tensor, out: Tensor, columns: int) -> Tensor:
        """Fill ``out`` (N, C_out, columns) from ``x`` (N, C_in, columns), both contiguous."""
        threads, run = torch.get_num_threads(), compile_kernel(columns)
        rows, matrix = self.in_channels, [t.data_ptr() for t in (self._shares(threads), *self._matrix)]
        tiles = torch.empty(threads, rows * TILE)
        for image in range(len(x)):
            ends = [t.data_ptr() + 4 * image * t.stride(0) for t in (x, out)]
            run(_Task(*matrix, *ends, tiles.data_ptr(), rows, rows * TILE, threads), threads)
        return out

    def _shares(self, threads: int) -> Tensor:
        """Return the first row of each thread, and the end of the last, for about as many weights each."""
        if threads not in self._bounds:
            begins, indices = self._matrix[:2]
            wanted = (torch.arange(1, threads) * len(indices) // threads).int()
            inner = torch.searchsorted(begins, wanted).clamp(max=self.out_channels)
            self._bounds[threads] = F.pad(F.pad(inner, (1, 0)), (0, 1), value=self.out_channels)
        return self._bounds[threads]


def sparse_inference(network: nn.Module, min_sparsity: float = MIN_SPARSITY) -> nn.Module:
    """Return a copy of a pruned network that runs faster: for inference on the CPU, by the extra ``sparse``.

    Its 1x1 convolutions with one group and no padding become :class:`SparseConv1x1`, where enough weights are zero.
    Subclasses of ``nn.Conv2d`` and convolutions with forward hooks may compute something else, and stay dense.

    Args:
        network: float32, on the CPU; it is not changed. Remove its pruner first: else the copy goes on masking
            weights that it no longer uses.
        min_sparsity: in [0, 1): convolutions with a smaller share of zeros stay as they are.

    Returns: the copy, in eval mode.

    Raises:
        SparseRuntimeError: llvmlite is missing, ``min_sparsity`` is out of range, or no convolution is that sparse.

    >>> conv = nn.Conv2d(8, 8, 1)
    >>> _ = conv.weight.data[2:].zero_()
    >>> sparse_inference(nn.Sequential(conv, nn.ReLU()))[0]
    SparseConv1x1(8, 8, stride=(1, 1), weights=16 of 64)
    """
    if problems := share("min_sparsity", min_sparsity):
        raise SparseRuntimeError(f"{problems[0]}.")
    if find_spec("llvmlite") is None:
        raise SparseRuntimeError('the sparse runtime needs llvmlite: pip install "nas-tuners[sparse]".')
    zero_pruned(network)
    dense = {name: m for name, m in network.named_modules(remove_duplicate=False) if _is_plain_conv1x1(m)}
    zeros = {name: float((module.weight == 0).float().mean()) for name, module in dense.items()}
    sparse = {name: SparseConv1x1(dense[name]) for name, zero in zeros.items() if zero >= min_sparsity}
    if not sparse:
        best = max(zeros, key=zeros.__getitem__, default=None)
        nearest = "there is none" if best is None else f"the sparsest is {best or 'the network'} with {zeros[best]:.1%}"
        raise SparseRuntimeError(
            f"no 1x1 convolution (plain, float32, on the CPU, one group, no padding) has {min_sparsity:.0%} zeros: "
            f"{nearest}. Prune more, or give min_sparsity."
        )
    if "" in sparse:
        return sparse[""].eval()
    faster = copy.deepcopy(network)
    for name, module in sparse.items():
        faster.set_submodule(name, module)
    return faster.eval()


def _is_plain_conv1x1(module: nn.Module) -> bool:
    if type(module) is not nn.Conv2d or has_other_hooks(module) or "forward" in vars(module):
        return False
    plain = module.kernel_size == (1, 1) and module.groups == 1 and module.padding in ((0, 0), "valid")
    return plain and module.weight.dtype == torch.float32 and module.weight.device.type == "cpu"
