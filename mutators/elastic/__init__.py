"""Once for all: networks of which any part runs by itself. After Cai et al., ICLR 2020, arXiv:1908.09791.

Loads lazily, as :mod:`mutators` does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mutators.elastic.attention import ElasticMultiheadAttention
    from mutators.elastic.batchnorm import ElasticBatchNorm1d, ElasticBatchNorm2d, ElasticBatchNorm3d
    from mutators.elastic.choice import ElasticChoice
    from mutators.elastic.conv import ElasticConv2d, ElasticConvTranspose2d
    from mutators.elastic.conversion.convert import convert
    from mutators.elastic.conversion.paddle import Convert, supernet
    from mutators.elastic.conversion.report import Conversion, conversion_of
    from mutators.elastic.costs import cost_table
    from mutators.elastic.depth import ElasticDepth
    from mutators.elastic.distill_config import DistillConfig
    from mutators.elastic.embedding import ElasticEmbedding
    from mutators.elastic.errors import ElasticError
    from mutators.elastic.found import Found, Subnet
    from mutators.elastic.importance import gradient_importance
    from mutators.elastic.importing import load_weights
    from mutators.elastic.linear import ElasticLinear
    from mutators.elastic.mit_config import ElasticNetwork
    from mutators.elastic.norm import ElasticGroupNorm, ElasticInstanceNorm2d, ElasticLayerNorm
    from mutators.elastic.ofa import OFA
    from mutators.elastic.onnx_file import export_onnx
    from mutators.elastic.predictor import AccuracyPredictor
    from mutators.elastic.run_config import RunConfig
    from mutators.elastic.sorting import Sorting, sort_channels
    from mutators.elastic.training import train
    from mutators.elastic.width import Channels, Width

__all__ = [
    "OFA",
    "AccuracyPredictor",
    "Channels",
    "Conversion",
    "Convert",
    "DistillConfig",
    "ElasticBatchNorm1d",
    "ElasticBatchNorm2d",
    "ElasticBatchNorm3d",
    "ElasticChoice",
    "ElasticConv2d",
    "ElasticConvTranspose2d",
    "ElasticDepth",
    "ElasticEmbedding",
    "ElasticError",
    "ElasticGroupNorm",
    "ElasticInstanceNorm2d",
    "ElasticLayerNorm",
    "ElasticLinear",
    "ElasticMultiheadAttention",
    "ElasticNetwork",
    "Found",
    "RunConfig",
    "Sorting",
    "Subnet",
    "Width",
    "conversion_of",
    "convert",
    "cost_table",
    "export_onnx",
    "gradient_importance",
    "load_weights",
    "sort_channels",
    "supernet",
    "train",
]

_HOME = {
    "AccuracyPredictor": "predictor",
    "Channels": "width",
    "Conversion": "conversion.report",
    "Convert": "conversion.paddle",
    "DistillConfig": "distill_config",
    "ElasticBatchNorm1d": "batchnorm",
    "ElasticBatchNorm2d": "batchnorm",
    "ElasticBatchNorm3d": "batchnorm",
    "ElasticChoice": "choice",
    "ElasticConv2d": "conv",
    "ElasticConvTranspose2d": "conv",
    "ElasticDepth": "depth",
    "ElasticEmbedding": "embedding",
    "ElasticError": "errors",
    "ElasticGroupNorm": "norm",
    "ElasticInstanceNorm2d": "norm",
    "ElasticLayerNorm": "norm",
    "ElasticLinear": "linear",
    "ElasticMultiheadAttention": "attention",
    "ElasticNetwork": "mit_config",
    "Found": "found",
    "OFA": "ofa",
    "RunConfig": "run_config",
    "Sorting": "sorting",
    "Subnet": "found",
    "Width": "width",
    "conversion_of": "conversion.report",
    "convert": "conversion.convert",
    "cost_table": "costs",
    "export_onnx": "onnx_file",
    "gradient_importance": "importance",
    "load_weights": "importing",
    "sort_channels": "sorting",
    "supernet": "conversion.paddle",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
