"""Write an exported network as an ONNX file, after comparing it in onnxruntime. Needs the extra ``[onnx]``."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from torch import nn

from mutators.choices.errors import ElasticError
from mutators.choices.switch import kept_modes
from mutators.elastic.export.export import Dtypes, Shapes, draw_inputs
from mutators.inputs import Inputs, first_outputs
from mutators.oneshot.rng import kept_rng
from mutators.subnet import translate
from search_spaces.files import write_atomically


def export_onnx(
    net: nn.Module,
    path: str | PathLike[str],
    input_shapes: Shapes,
    input_dtypes: Dtypes | None = None,
    *,
    opset: int = translate.OPSET,
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
    translate.check_onnx_is_installed(ElasticError)
    if any(isinstance(entry, Mapping) for entry in input_shapes):
        raise ElasticError("a dict in input_shapes cannot become an input of ONNX: wrap the network to take tensors.")
    with kept_rng(), kept_modes(net):
        net.eval()
        inputs, outputs = first_outputs(net, draw_inputs(input_shapes, input_dtypes), ElasticError)
        content = _translate(net, inputs, opset)
    got = translate.load_onnx(content)(inputs)
    try:
        difference = translate.largest_difference(got, outputs, tolerance, "onnxruntime", least=1.0)
    except translate.ProgramError as error:
        raise ElasticError(f"{error} Give tolerance= if that will do. Nothing was written.") from error
    try:
        write_atomically(Path(path), content)
    except OSError as error:
        raise ElasticError(f"cannot write {path}: {error.strerror}.") from error
    return difference


def _translate(net: nn.Module, inputs: Inputs, opset: int) -> bytes:
    sizes = translate.all_sizes(inputs)
    several = translate.repeat(inputs, sizes, "batch", 2)  # torch takes a batch of 1 for a fixed one
    try:
        return translate.to_onnx(net, several, translate.free_sizes(sizes), opset)[0]
    except Exception as error:  # torch's exporter has many
        why = translate.first_line_of(error)
        raise ElasticError(f"torch cannot translate this {type(net).__name__} to ONNX: {why}") from error
