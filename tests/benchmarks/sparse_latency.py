"""Does sparsity make 1x1 convolutions faster here? Latency, dense against sparse, in every runtime that is installed.

Run: python tests/benchmarks/sparse_latency.py --threads 1            (a few minutes; again with --threads 2)
Gains are (dense - sparse) / sparse; batch 1, float32; medians over interleaved rounds, each of which runs every
contestant. Dense is torch's fastest of three (convolution in either memory format, matrix product) with the same
weights; runtimes of their own are also compared with themselves at weights without zeros. What is not installed is
skipped and named: ``pip install llvmlite openvino onnxruntime onnx tensorflow-cpu ai-edge-litert``.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mutators import extract, search_space_of
from mutators.pruning.sparse.runtime import SparseConv1x1, SparseRuntimeError, sparse_inference
from search_spaces import Space, build
from search_spaces.nets.shufflenet_v2 import PAPER

Run = Callable[[], Any]
Statistic = Callable[[list[float]], float]

LAYERS = (  # C_out, C_in, H = W: of MobileNet, ShuffleNetV2 and larger ones
    (64, 32, 112),
    (128, 128, 56),
    (58, 58, 28),
    (160, 160, 28),
    (320, 320, 14),
    (512, 512, 14),
    (1024, 1024, 14),
    (640, 640, 7),
    (1024, 640, 7),
)
SPARSITIES = (0.0, 0.75, 0.85)


def pruned(weight: Tensor, sparsity: float, generator: torch.Generator) -> Tensor:
    """The weights with as many zeros at random places: where they are matters to no kernel here."""
    flat = weight.detach().clone().flatten()
    flat[torch.randperm(len(flat), generator=generator)[: round(sparsity * len(flat))]] = 0
    return flat.view_as(weight)


def measured(contestants: dict[str, Run], rounds: int, statistic: Statistic) -> dict[str, float]:
    """Milliseconds of each; every round runs all of them, in turn forwards and backwards."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run(), run()
    for round_ in range(rounds):
        for name, run in list(contestants.items())[:: 1 if round_ % 2 else -1]:
            run()  # so that the input is in the cache, as after the layer before it
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return {name: 1000 * statistic(values) for name, values in times.items()}


def gain(dense: float, sparse: float) -> str:
    return f"{100 * (dense - sparse) / sparse:+.0f} %"


# The runtimes: each takes weights (C_out, C_in, 1, 1) and an image (1, C_in, H, W), and says how it runs them.


def torch_dense(weight: Tensor, x: Tensor) -> dict[str, Run]:
    last = x.to(memory_format=torch.channels_last)
    return {
        "conv": partial(torch.conv2d, x, weight),
        "conv, channels last": partial(torch.conv2d, last, weight.to(memory_format=torch.channels_last)),
        "product": partial(torch.mm, weight.flatten(1), x.flatten(2)[0]),
    }


def torch_csr(weight: Tensor, x: Tensor, _: int) -> Run:
    """MKL's product of a compressed sparse row matrix, by ``torch.sparse``."""
    csr = weight.flatten(1).to_sparse_csr()
    matrix = torch.sparse_csr_tensor(csr.crow_indices().int(), csr.col_indices().int(), csr.values(), csr.shape)
    return partial(torch.sparse.mm, matrix, x.flatten(2)[0])


def ours(weight: Tensor, x: Tensor, _: int) -> Run:
    """``mutators.pruning.sparse_inference``."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=False)
    conv.weight.data = weight
    return partial(sparse_inference(conv, 0.0), x)


def openvino(weight: Tensor, x: Tensor, threads: int) -> Run:
    """A matrix product with sparse weights decompression, which is faster there than its convolution."""
    import openvino as ov
    from openvino import opset13 as ops

    rows = x.flatten(2).transpose(1, 2).contiguous().numpy()
    image = ops.parameter(list(rows.shape), np.float32)
    product = ops.matmul(image, ops.constant(weight.flatten(1).numpy()), False, True)
    config = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE": 0.5,
    }
    request = ov.Core().compile_model(ov.Model([product], [image]), "CPU", config).create_infer_request()
    request.set_input_tensor(ov.Tensor(rows))
    return request.infer  # type: ignore[no-any-return]


def onnxruntime(weight: Tensor, x: Tensor, threads: int) -> Run:
    """Its convolution; it has no sparse one."""
    import onnxruntime as ort
    from onnx import helper, numpy_helper

    ends = [helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", x.shape), ("y", None))]
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "conv", ends[:1], ends[1:], [numpy_helper.from_array(weight.numpy(), "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {"x": x.numpy()})


def litert(weight: Tensor, x: Tensor, threads: int) -> Run:
    """XNNPACK by LiteRT, in the graph that its sparse inference asks for: a strided 3x3 before, a global mean after.

    XNNPACK turns sparse inference off on x86 with AVX, where its sparse kernels would be the slower ones.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    (channels, size), rng = x.shape[1:3], np.random.default_rng(0)
    stem = tf.constant(rng.standard_normal((3, 3, 3, channels), dtype=np.float32))
    kernel = tf.constant(weight.permute(2, 3, 1, 0).numpy())

    @tf.function(input_signature=[tf.TensorSpec((1, 2 * size, 2 * size, 3))])  # type: ignore[untyped-decorator]
    def net(image: Any) -> Any:
        image = tf.nn.conv2d(tf.pad(image, [[0, 0], [1, 1], [1, 1], [0, 0]]), stem, 2, "VALID")
        return tf.reduce_mean(tf.nn.conv2d(image, kernel, 1, "VALID"), [1, 2], keepdims=True)

    logging.getLogger("absl").setLevel(logging.ERROR)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([net.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    interpreter = Interpreter(model_content=converter.convert(), num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter.invoke  # type: ignore[no-any-return]


RUNTIMES: dict[str, Callable[[Tensor, Tensor, int], Run]] = {
    "ours": ours,
    "torch.sparse": torch_csr,
    "openvino": openvino,
    "onnxruntime": onnxruntime,
    "litert": litert,
}
OF_THEIR_OWN = ("openvino", "onnxruntime", "litert")  # compared with themselves as well


def installed(threads: int) -> Iterator[str]:
    """Names of the runtimes that run; says why of the others."""
    for name, make in RUNTIMES.items():
        try:
            make(torch.randn(32, 32, 1, 1), torch.randn(1, 32, 8, 8), threads)()
            yield name
        except (ImportError, SparseRuntimeError) as error:
            print(f"{name} is skipped: {error}")


def compare_layer(
    shape: tuple[int, int, int], names: list[str], threads: int, rounds: int, statistic: Statistic
) -> None:
    """One line for each sparsity: milliseconds of every runtime, and gains over torch's best and over its own dense."""
    out, channels, size = shape
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(out, channels, 1, 1, generator=generator)
    x = torch.randn(1, channels, size, size, generator=generator)
    contestants: dict[str, Run] = {}
    for sparsity in SPARSITIES:
        weights = pruned(weight, sparsity, generator)
        made = {f"torch {kind}": run for kind, run in torch_dense(weights, x).items()}
        made |= {name: RUNTIMES[name](weights, x, threads) for name in names}
        contestants |= {f"{name} {sparsity}": run for name, run in made.items()}
    times = measured(contestants, rounds, statistic)
    for sparsity in SPARSITIES:
        dense = min(times[f"torch {kind} {sparsity}"] for kind in ("conv", "conv, channels last", "product"))
        cells = [f"{out}x{channels} {size}x{size}".ljust(16), f"{100 * sparsity:3.0f} %", f"dense {dense:7.3f} ms"]
        for name in names:
            sparse = times[f"{name} {sparsity}"]
            own = f", own {gain(times[f'{name} 0.0'], sparse)}" if name in OF_THEIR_OWN else ""
            over = "" if name == "litert" else f" ({gain(dense, sparse)}{own})"  # its graph holds more than this layer
            cells.append(f"{name} {sparse:7.3f}{over or f' ({own[2:]})'}")
        print(" | ".join(cells), flush=True)


def mobilenet_v1() -> nn.Module:
    """MobileNetV1 (Howard et al., 2017, arXiv:1704.04861): (N, 3, 224, 224) to (N, 1000)."""

    def block(channels: int, out: int, stride: int) -> list[nn.Module]:
        depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        pointwise = nn.Conv2d(channels, out, 1, bias=False)
        return [depthwise, nn.BatchNorm2d(channels), nn.ReLU(), pointwise, nn.BatchNorm2d(out), nn.ReLU()]

    widths = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    layers = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    for i, (channels, out) in enumerate(itertools.pairwise(widths)):
        layers += block(channels, out, 2 if i in (1, 3, 5, 11) else 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000))


def shufflenet_v2() -> nn.Module:
    """The architecture that Single Path One-Shot found: (N, 3, 224, 224) to (N, 1000)."""
    net = build("shufflenet_v2")
    return extract(net, Space.from_json(search_space_of(net)).decode(PAPER))


def compare_network(
    name: str, net: nn.Module, names: list[str], threads: int, rounds: int, statistic: Statistic
) -> None:
    """The whole network, batch norms folded into the convolutions on both sides; 1x1 convolutions pruned at random."""
    from torch.fx.experimental.optimization import fuse  # here, since it warns of torch's own old parts

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, 224, 224, generator=generator)
    last = x.to(memory_format=torch.channels_last)
    folded = fuse(net.eval())
    contestants: dict[str, Run] = {}
    for sparsity in SPARSITIES:
        dense = copy.deepcopy(folded)
        for module in dense.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
                module.weight.data = pruned(module.weight, sparsity, generator)
        sparse = sparse_inference(dense, 0.0)
        assert torch.allclose(dense(x), sparse(x), atol=1e-3, rtol=1e-3)
        contestants |= {f"dense {sparsity}": partial(dense, x), f"sparse {sparsity}": partial(sparse, x)}
        if "openvino" in names:
            contestants[f"openvino {sparsity}"] = openvino_network(dense, x, threads)
        contestants[f"last {sparsity}"] = partial(copy.deepcopy(dense).to(memory_format=torch.channels_last), last)
    times = measured(contestants, rounds, statistic)
    count = sum(isinstance(module, SparseConv1x1) for module in sparse.modules())
    for sparsity in SPARSITIES:
        best, ms = min(times[f"dense {sparsity}"], times[f"last {sparsity}"]), times[f"sparse {sparsity}"]
        cells = [f"{name}, {count} layers", f"{100 * sparsity:3.0f} %", f"dense {best:7.3f} ms"]
        cells.append(f"ours {ms:7.3f} ({gain(best, ms)})")
        cells += [f"openvino {times[key]:7.3f}" for key in (f"openvino {sparsity}",) if key in times]
        print(" | ".join(cells), flush=True)


def openvino_network(net: nn.Module, x: Tensor, threads: int) -> Run:
    """The whole network; OpenVINO fuses what torch runs layer by layer, and makes no use of zeros."""
    import openvino as ov

    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    model = ov.convert_model(copy.deepcopy(net), example_input=x)
    request = ov.Core().compile_model(model, "CPU", config).create_infer_request()
    request.set_input_tensor(ov.Tensor(x.numpy()))
    return request.infer  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--statistic", choices=("median", "min"), default="median", help="min: on a busy machine")
    parser.add_argument("--only", nargs="*", choices=RUNTIMES, default=list(RUNTIMES), help="runtimes")
    options = parser.parse_args()
    statistic: Statistic = min if options.statistic == "min" else statistics.median
    warnings.filterwarnings("ignore", message="Sparse ")  # CSR tensors are in beta, torch says
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with torch.inference_mode():
        names = [name for name in installed(options.threads) if name in options.only]
        print(f"{options.threads} threads, {options.statistic} of {options.rounds} rounds, torch {torch.__version__}")
        for shape in LAYERS:
            compare_layer(shape, names, options.threads, options.rounds, statistic)
        if "ours" in names:
            for name, net in (("MobileNetV1", mobilenet_v1()), ("ShuffleNetV2", shufflenet_v2())):
                compare_network(name, net, names, options.threads, options.rounds, statistic)


if __name__ == "__main__":
    main()
