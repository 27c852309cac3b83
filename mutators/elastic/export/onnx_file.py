"""Write an exported network as an ONNX file, after comparing it in onnxruntime. Needs the extra ``[onnx]``."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.switch import kept_modes
from mutators.elastic.export.export import Dtypes, Shapes, draw_inputs, first_outputs
from mutators.inputs import Inputs
from mutators.oneshot.rng import kept_rng
from search_spaces.files import write_atomically

OPSET = 18
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def export_onnx(
    net: nn.Module,
    path: str | PathLike[str],
    input_shapes: Shapes,
    input_dtypes: Dtypes | None = None,
    *,
    opset: int = OPSET,
    tolerance: float = 1e-5,
) -> float:
    """Write an exported network as ONNX, with a free batch size. A file that was there is replaced whole, or kept.

    Args:
        net: plain, as ``ofa.export`` returns it; runs in evaluation mode, and stays as it is.
        path: of the file; its folder is made if need be.
        input_shapes: of an input, or one for each; the batch may be left out.
        input_dtypes: see :meth:`mutators.elastic.OFA.export`.
        opset: version of the operators.
        tolerance: relative, that onnxruntime's outputs may be off by: at most this times max(1, largest output).

    Returns: the largest absolute difference between onnxruntime's outputs and torch's.

    Raises:
        ElasticError: the extra is not installed, shapes do not fit, torch cannot translate the network, outputs differ,
            or the file cannot be written.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ElasticError(f"ONNX needs {', '.join(missing)}: pip install 'nas-tuners[onnx]'")
    if any(isinstance(entry, Mapping) for entry in input_shapes):
        raise ElasticError("a dict in input_shapes cannot become an input of ONNX: wrap the network to take tensors.")
    with kept_rng(), kept_modes(net):
        net.eval()
        inputs, outputs = first_outputs(net, draw_inputs(input_shapes, input_dtypes))
        content = _translate(net, inputs, opset)
    difference = _difference(content, inputs, outputs, tolerance)
    try:
        write_atomically(Path(path), content)
    except OSError as error:
        raise ElasticError(f"cannot write {path}: {error.strerror}.") from error
    return difference


def _translate(net: nn.Module, inputs: Inputs, opset: int) -> bytes:
    names = [f"input{i}" for i in range(len(inputs))]
    batch = torch.export.Dim("batch", min=1)
    free = [{0: batch} if tensor.dim() else None for tensor in inputs]
    doubled = tuple(torch.cat([tensor, tensor]) if tensor.dim() else tensor for tensor in inputs)  # 1 would be fixed
    try:
        with _quiet():
            program = torch.onnx.export(
                net,
                doubled,
                opset_version=opset,
                dynamo=True,
                verbose=False,
                input_names=names,
                dynamic_shapes=_by_argument(net, free),
                external_data=False,
            )
    except Exception as error:  # torch's exporter has many
        raise ElasticError(f"torch cannot translate this {type(net).__name__} to ONNX: {_reason(error)}") from error
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def _by_argument(net: nn.Module, shapes: list[Any]) -> tuple[Any, ...]:
    """Return dynamic shapes by argument of forward; those of its ``*inputs`` are one tuple to torch."""
    kinds = [parameter.kind for parameter in inspect.signature(net.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(shapes)
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:named], tuple(shapes[named:]))


def _reason(error: BaseException) -> str:
    """Return the first line of the first error; torch wraps it several times, in colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = _COLOURS.sub("", str(error)).strip().split("\n")
    return f"{type(error).__name__}: {lines[0]}"


def _difference(content: bytes, inputs: Inputs, outputs: list[torch.Tensor], tolerance: float) -> float:
    """Return the largest difference of onnxruntime's outputs from torch's, which may not exceed the tolerance."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    got = session.run(None, {name: tensor.cpu().numpy() for name, tensor in zip(names, inputs, strict=True)})
    worst = 0.0
    for i, (ours, theirs) in enumerate(zip(got, outputs, strict=True)):
        expected = theirs.cpu().numpy()
        if ours.shape != expected.shape:
            raise ElasticError(f"output {i} is {ours.shape} in onnxruntime and {expected.shape} in torch.")
        difference = float(abs(ours - expected).max(initial=0))
        allowed = tolerance * max(1.0, float(abs(expected).max(initial=0)))
        if not difference <= allowed:
            raise ElasticError(
                f"output {i} differs by up to {difference:.3g} in onnxruntime, wanted at most {allowed:.3g}: give "
                "tolerance= if that will do. Nothing was written."
            )
        worst = max(worst, difference)
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's own warnings and log."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
