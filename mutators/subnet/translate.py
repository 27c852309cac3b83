"""Translate a network to ``torch.export``'s format and to ONNX, run what came out, and compare it with the network."""

from __future__ import annotations

import importlib.util
import inspect
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr

import torch
from torch import nn
from torch.export import Dim

from mutators.choices.torch_private import tree_leaves
from mutators.inputs import Inputs
from search_spaces.errors import ProblemsError

OPSET = 18
Sizes = list[list[int | str]]
"""The shape of each input; a free size is "batch" in the first place and "any" elsewhere."""

Runner = Callable[[Inputs], list[torch.Tensor]]
"""Returns outputs, flat."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LOGGERS = ("torch.onnx", "torch.export", "torch._export", "torch.fx")


class ProgramError(ProblemsError):
    """A network cannot be written as a file that runs by itself, or the file computes something else."""


def to_pt2(network: nn.Module, inputs: Inputs, free: Sequence[object] | None) -> tuple[bytes, Sizes]:
    """Return a ``torch.export`` program as the content of a file, and the inputs that it takes.

    Args:
        network: in evaluation mode.
        inputs: with sizes above 1 where they are free.
        free: see :func:`free_sizes`; None: every size is fixed.
    """
    with quiet():
        program = torch.export.export(network, inputs, dynamic_shapes=_by_argument(network, free))
        stream = io.BytesIO()
        torch.export.save(program, stream)
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    shapes = [map(str, values[name].shape) for name in program.graph_signature.user_inputs if name in values]
    # a size that was asked to be free and cannot be is symbolic as well, and reads as a number
    return stream.getvalue(), [_sizes([int(n) if n.isdecimal() else None for n in shape]) for shape in shapes]


def load_pt2(content: bytes) -> Runner:
    """Return a function that runs a program, which is read anew."""
    with quiet():
        module = torch.export.load(io.BytesIO(content)).module()

    def run(inputs: Inputs) -> list[torch.Tensor]:
        with quiet(), torch.no_grad():
            return [leaf for leaf in tree_leaves(module(*inputs)) if isinstance(leaf, torch.Tensor)]

    return run


def check_onnx_is_installed(error: type[ProblemsError] = ProgramError) -> None:
    """Raise an error that says what to install if a package of the extra ``[onnx]`` is missing."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise error(f"ONNX needs {', '.join(missing)}: pip install 'nas-tuners[onnx]'")


def to_onnx(
    network: nn.Module, inputs: Inputs, free: Sequence[object] | None, opset: int = OPSET
) -> tuple[bytes, Sizes]:
    """Return ONNX as the content of a file, and the inputs that it takes. For arguments see :func:`to_pt2`."""
    with quiet():
        program = torch.onnx.export(
            network,
            inputs,
            opset_version=opset,
            dynamo=True,
            verbose=False,
            input_names=[f"input{i}" for i in range(len(inputs))],
            dynamic_shapes=_by_argument(network, free),
            external_data=False,
        )
    assert program is not None
    dims = [given.type.tensor_type.shape.dim for given in program.model_proto.graph.input]
    sizes = [_sizes([size.dim_value if size.HasField("dim_value") else None for size in shape]) for shape in dims]
    return program.model_proto.SerializeToString(), sizes


def load_onnx(content: bytes) -> Runner:
    """Return a function that runs ONNX in onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it raises what it would log as well
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(inputs: Inputs) -> list[torch.Tensor]:
        given = {name: tensor.cpu().numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.as_tensor(output) for output in session.run(None, given)]

    return run


def free_sizes(sizes: Sizes) -> list[dict[int, object] | None]:
    """Return which sizes are to be free, as torch takes it."""
    batch, any_size = Dim("batch", min=1), Dim.AUTO
    kinds: dict[int | str, object] = {"batch": batch, "any": any_size}
    return [{i: kinds[size] for i, size in enumerate(shape) if size in kinds} or None for shape in sizes]


def repeat(inputs: Inputs, sizes: Sizes, name: str, times: int) -> Inputs:
    """Return inputs that are so many times as large wherever ``sizes`` has this name, "batch" or "any"."""
    return tuple(
        tensor.repeat(*(times if size == name else 1 for size in shape)) if shape else tensor
        for tensor, shape in zip(inputs, sizes, strict=True)
    )


def all_sizes(inputs: Inputs, others: str | None = None) -> Sizes:
    """Return sizes with a free batch, and others as they are, or of this name."""
    return [["batch", *(others or n for n in tensor.shape[1:])] if tensor.dim() else [] for tensor in inputs]


def largest_difference(
    got: list[torch.Tensor], wanted: list[torch.Tensor], tolerance: float, where: str, least: float = 0.0
) -> float:
    """Return the largest absolute difference of outputs.

    Raises:
        ProgramError: shapes differ, or numbers by more than ``tolerance`` * max(``least``, its largest number).
    """
    worst = 0.0
    for i, (ours, theirs) in enumerate(zip(got, wanted, strict=True)):
        if ours.shape != theirs.shape:
            raise ProgramError(f"output {i} is {tuple(ours.shape)} in {where} and {tuple(theirs.shape)} in torch.")
        expected = theirs.cpu().double()
        difference = largest_number([ours.double() - expected])
        allowed = tolerance * max(least, largest_number([expected]))
        if not difference <= allowed:
            raise ProgramError(
                f"output {i} differs by up to {difference:.3g} in {where}, wanted at most {allowed:.3g}."
            )
        worst = max(worst, difference)
    return worst


def largest_number(tensors: list[torch.Tensor]) -> float:
    """Return the largest absolute number in tensors; 0 if there is none."""
    return max((float(tensor.abs().max()) for tensor in tensors if tensor.numel()), default=0.0)


def first_line_of(error: BaseException) -> str:
    """Return the first line of the first error; torch wraps it several times, in colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = _COLOURS.sub("", str(error)).strip().split("\n")
    return f"{type(error).__name__}: {lines[0]}"


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the exporters' own warnings and logs."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    try:
        for name in levels:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # torch prints whole graphs there
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _by_argument(network: nn.Module, free: Sequence[object] | None) -> tuple[object, ...] | None:
    """Return free sizes by argument of forward; those of its ``*inputs`` are one tuple to torch."""
    if free is None:
        return None
    kinds = [parameter.kind for parameter in inspect.signature(network.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(free)
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*free[:named], tuple(free[named:]))


def _sizes(shape: Sequence[int | None]) -> list[int | str]:
    return [size if size is not None else "any" if i else "batch" for i, size in enumerate(shape)]
