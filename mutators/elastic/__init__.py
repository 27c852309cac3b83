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
    from mutators.elastic.depth import ElasticDepth
    from mutators.elastic.embedding import ElasticEmbedding
    from mutators.elastic.errors import ElasticError
    from mutators.elastic.linear import ElasticLinear
    from mutators.elastic.mit_config import ElasticNetwork
    from mutators.elastic.norm import ElasticGroupNorm, ElasticInstanceNorm2d, ElasticLayerNorm
    from mutators.elastic.width import Channels, Width

__all__ = [
    "Channels",
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
    "Width",
]

_HOME = {
    "Channels": "width",
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
    "ElasticNetwork": "mit_config",
    "ElasticMultiheadAttention": "attention",
    "Width": "width",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
